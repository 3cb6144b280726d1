// SPDX-License-Identifier: Apache-2.0
// The process that takes away what the lab attached when the lab is killed.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// What a keeper does: it waits for the end of the lab, and tidies up after it.
package enum LabKeeper {
    /// Returns when the lab is over and nothing is left of it.
    ///
    /// - Parameter process: the lab's; the other end of standard input is its own.
    package static func keep(after process: Int32) {
        var byte: UInt8 = 0
        // Nothing is ever written: it returns when the other end is closed, by the lab or its end.
        while read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR {}
        LabState.remove(LabState.of(process: process))
        TemporaryCgroup.removeMade(by: process)
    }
}

/// A child that outlives the lab, for as long as it takes to tidy up after it.
struct KeeperProcess: ~Copyable {
    private let pid: pid_t
    /// It reads the other end, and finds it closed when the lab is no more.
    private let life: OwnedDescriptor

    /// - Parameter arguments: with which this program calls `LabKeeper.keep`.
    init(_ command: [String]) throws(Errno) {
        var ends: [Int32] = [-1, -1]
        try Errno.check {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        let readEnd = OwnedDescriptor(taking: ends[0])
        let life = OwnedDescriptor(taking: ends[1])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, readEnd.raw, STDIN_FILENO)
        // Out of reach of the terminal's signals, and of whoever waits for the end of the output.
        for output in [STDOUT_FILENO, STDERR_FILENO] {
            posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY, 0)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        var arguments = (["tupleguard"] + command).map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let failure = posix_spawn(
            &pid, "/proc/self/exe", &actions, &attributes, &arguments, environ)
        if failure != 0 { throw Errno(failure) }
        self.pid = pid
        self.life = life
    }

    deinit {
        // Nothing is left to be tidied up.
        kill(pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    }
}
