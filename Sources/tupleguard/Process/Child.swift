// SPDX-License-Identifier: Apache-2.0
// A child process, and the signals that concern it.

import Glibc
import TupleguardSockets

/// A command that runs as a child.
struct Child {
    private let pid: pid_t

    private static let forwarded = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2]

    /// Keeps the signals that `wait` handles from ending this process.
    ///
    /// - Returns: the mask from before, for the child.
    static func blockSignals() -> sigset_t {
        var before = sigset_t()
        var blocked = waitedFor
        pthread_sigmask(SIG_BLOCK, &blocked, &before)
        return before
    }

    private static var waitedFor: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in forwarded + [SIGCHLD] { sigaddset(&set, signal) }
        return set
    }

    /// Starts the command, found as a shell finds it, with this process's descriptors.
    init(_ command: [String], signalMask: sigset_t) throws(Errno) {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = signalMask
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let failure = posix_spawnp(&pid, command[0], nil, &attributes, &arguments, environ)
        if failure != 0 { throw Errno(failure) }
        self.pid = pid
    }

    /// Waits for the child, handing on the signals that come meanwhile.
    ///
    /// - Parameter onSecondTermination: called when a second SIGTERM shows that
    ///   the first was not enough.
    /// - Returns: the exit status, or 128 + n when signal n ended it.
    func wait(onSecondTermination: () -> Void) -> Int32 {
        var terminations = 0
        while true {
            var set = Self.waitedFor
            var info = siginfo_t()
            let signal = sigwaitinfo(&set, &info)
            if signal == SIGCHLD {
                var status: Int32 = 0
                if waitpid(pid, &status, WNOHANG) == pid { return Self.exitStatus(status) }
            } else if signal > 0 {
                // A terminal sends its own to the child as well.
                if info.si_code != SI_KERNEL { kill(pid, signal) }
                if signal == SIGTERM { terminations += 1 }
                if terminations > 1 { onSecondTermination() }
            }
        }
    }

    private static func exitStatus(_ status: Int32) -> Int32 {
        let signal = status & 0x7f
        return signal == 0 ? status >> 8 & 0xff : 128 + signal
    }
}
