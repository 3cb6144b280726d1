// SPDX-License-Identifier: Apache-2.0
// Files are opened close-on-exec, or the error says why not.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets

@Suite("Opening a file")
struct OpenFileTests {
    @Test("Files are opened close-on-exec")
    func closeOnExec() throws {
        let file = try OwnedDescriptor(path: "/dev/null", flags: O_RDONLY)
        let flags = fcntl(file.raw, F_GETFD)
        #expect(flags & FD_CLOEXEC != 0)
    }

    @Test("A file that cannot be opened")
    func missingFile() {
        #expect(throws: Errno(ENOENT)) {
            _ = try OwnedDescriptor(path: "/dev/null-that-is-not-there", flags: O_RDONLY)
        }
        #expect(throws: Errno(ENOTDIR)) {
            _ = try OwnedDescriptor(path: "/dev/null/below", flags: O_RDONLY)
        }
    }
}
