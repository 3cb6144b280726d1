// SPDX-License-Identifier: Apache-2.0
// A child process, and the signals that concern it.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// A command that runs as a child.
struct Child {
    private let pid: pid_t

    private static let forwarded = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2]

    /// Keeps the signals that `wait` handles from ending this process, and a pipe that nobody reads
    /// any more from ending it before it has tidied up.
    ///
    /// - Returns: the mask from before, for the child.
    static func blockSignals() -> sigset_t {
        // Who started us may have had it ignored: then children go unnoticed (wait(2)).
        signal(SIGCHLD, SIG_DFL)
        var before = sigset_t()
        var blocked = waitedFor
        sigaddset(&blocked, SIGPIPE)
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
    ///
    /// - Parameter inherited: a descriptor with FD_CLOEXEC that it is to have all the same.
    init(_ command: [String], signalMask: sigset_t, inheriting inherited: Int32? = nil)
        throws(Errno)
    {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var mask = signalMask
        posix_spawnattr_setsigmask(&attributes, &mask)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let inherited {
            // A duplicate of itself loses the flag (posix_spawn(3)).
            posix_spawn_file_actions_adddup2(&actions, inherited, inherited)
        }
        var pid = pid_t()
        let failure = Self.withArguments(command) { arguments in
            posix_spawnp(&pid, command[0], &actions, &attributes, arguments, environ)
        }
        if failure != 0 { throw Errno(failure) }
        self.pid = pid
    }

    /// Makes this process the command.
    ///
    /// - Returns: why it could not be.
    static func become(_ command: [String]) -> Errno {
        withArguments(command) { _ = execvp(command[0], $0) }
        return .last
    }

    private static func withArguments<Result>(
        _ command: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        return arguments.withUnsafeMutableBufferPointer { body($0.baseAddress!) }
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
                // One signal may stand for several children: orphans are among them.
                while let ended = Self.ended(Int32(WNOHANG)) {
                    if ended.pid == pid { return ended.status }
                }
            } else if signal > 0 {
                // A terminal sends its own to the child as well.
                if info.si_code != SI_KERNEL { kill(pid, signal) }
                if signal == SIGTERM { terminations += 1 }
                if terminations > 1 { onSecondTermination() }
            }
        }
    }

    /// Ends whatever child this process has, and their children as they become its own.
    ///
    /// - Returns: how many there were.
    @discardableResult
    static func endChildren() -> Int {
        var count = 0
        while true {
            let children = Proc.system.processes.filter { Proc.system.parent(of: $0) == getpid() }
            for child in children { kill(child, SIGKILL) }
            // Waits for one at least, so that this is not a busy loop.
            guard ended(0) != nil else { return count }
            count += 1
            while ended(Int32(WNOHANG)) != nil { count += 1 }
        }
    }

    /// Takes the exit status of a child that has ended; nil when there is none.
    private static func ended(_ options: Int32) -> (pid: pid_t, status: Int32)? {
        var status: Int32 = 0
        let pid = waitpid(-1, &status, options)
        return pid > 0 ? (pid, exitStatus(status)) : nil
    }

    private static func exitStatus(_ status: Int32) -> Int32 {
        let signal = status & 0x7f
        return signal == 0 ? status >> 8 & 0xff : 128 + signal
    }
}
