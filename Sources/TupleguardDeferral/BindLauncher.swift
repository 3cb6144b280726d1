// SPDX-License-Identifier: Apache-2.0
// How a command comes to run under a supervisor: what runs between fork and exec installs the
// filter, and hands the parent the end at which calls are answered.

import CTupleguardLinux
import CTupleguardSeccomp
package import TupleguardSockets

/// The process that becomes the command.
package enum BindLauncher {
    /// Holds its own calls, and those of all that it starts, for the parent to answer.
    ///
    /// - Parameters:
    ///   - channel: the end of a `LauncherChannel` that was inherited.
    ///   - parent: the process that started this one. When it ends, so does this one, by SIGKILL:
    ///     nobody could answer its calls any more.
    ///   - holdsNames: with those of getsockname().
    package static func holdCalls(
        channel: Int32, parent: Int32, holdsNames: Bool
    ) throws(BindLauncherError) {
        // Closed when the command begins, so that the parent sees an end in any case.
        let channel = OwnedDescriptor(taking: channel)
        guard seccomp_end_with_parent(SIGKILL) == 0, getppid() == parent else { throw .alone }
        let listener: OwnedDescriptor
        do throws(Errno) {
            listener = try OwnedDescriptor { seccomp_hold_binds(holdsNames) }
        } catch {
            throw .notHeld(error)
        }
        guard seccomp_send_descriptor(channel.raw, listener.raw) == 0 else { throw .alone }
    }
}

/// Why a command can't run under a supervisor.
package enum BindLauncherError: Error, CustomStringConvertible {
    /// The filter was refused.
    case notHeld(Errno)
    /// The parent has gone.
    case alone

    package var description: String {
        switch self {
        case .notHeld(let error) where error.number == EBUSY:
            return """
                another program watches this one's system calls already, and the kernel lets only \
                one do so: this runs below a second --defer-bind, or in a container with a notifier
                """
        case .notHeld(let error):
            return """
                cannot watch bind(): \(error); --defer-bind needs Linux 5.6 or later with \
                CONFIG_SECCOMP_FILTER, and a sandbox that allows seccomp(2)
                """
        case .alone:
            return "the process that was to watch bind() has ended"
        }
    }
}

/// What joins a parent and the process that becomes the command.
package struct LauncherChannel: ~Copyable {
    /// The parent's end.
    private let own: OwnedDescriptor
    /// The launcher's, for it to inherit.
    package let launchers: OwnedDescriptor

    package init() throws(Errno) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        try Errno.check { socketpair(AF_UNIX, type, 0, &ends) }
        own = OwnedDescriptor(taking: ends[0])
        launchers = OwnedDescriptor(taking: ends[1])
    }

    /// Waits for the end at which calls are answered; to be called when the launcher has started.
    ///
    /// - Returns: nil when it ended without, having said why.
    package consuming func listener() throws(Errno) -> Int32? {
        let own = Self.takeApart(self)
        let listener = seccomp_receive_descriptor(own.raw)
        if listener < 0 && linux_errno() != ENODATA { throw .last }
        return listener < 0 ? nil : listener
    }

    /// Its own end; the other is closed here.
    private static func takeApart(_ channel: consuming LauncherChannel) -> OwnedDescriptor {
        channel.own
    }
}

/// Makes descendants that lose their parent this process's children, so that it stays an ancestor
/// of them all.
package func adoptOrphans() throws(Errno) {
    try Errno.check { seccomp_adopt_orphans() }
}
