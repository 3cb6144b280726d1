// SPDX-License-Identifier: Apache-2.0
// Output that was lost is a failure, though print() does not say so.

@preconcurrency import Glibc

/// Says so when output was lost, as to a full disk, and lets no such run end with 0.
func failUnlessWritten(_ status: Int32) {
    // A descriptor that was closed from the start (>&-) is the caller's wish; main() has put
    // something in its place that can only be read.
    guard fflush(stdout) != 0 || ferror(stdout) != 0,
        fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE != O_RDONLY
    else { return }
    Terminal.note("Error: cannot write the output: is the disk full?")
    if status == EXIT_SUCCESS { _exit(EXIT_FAILURE) }
}
