// SPDX-License-Identifier: Apache-2.0
// Destroying one of several sockets with one tuple, so that another one receives.

import Glibc
package import TupleguardHostSurvey
package import TupleguardSocketDiag
import TupleguardSockets

/// What came of destroying the receiver of a tuple, or one that may be.
package struct Resolution: Sendable {
    /// Why it could not be destroyed, and what to do; nil when it was.
    package let error: String?
    /// Sockets that are overshadowed still, by one that was so itself.
    package let remaining: Int

    package var isDestroyed: Bool { error == nil }

    package init(destroying victim: SocketRecord, of shadow: Shadow) {
        let others = shadow.members.count - 1
        do {
            try shadow.destroy(victim)
            error = nil
            remaining = others - 1
        } catch {
            self.error = Self.explain(error)
            remaining = others
        }
    }

    private static func explain(_ error: any Error) -> String {
        if error is ReceiverChanged {
            return "another socket receives now, or none for certain; look again"
        }
        return switch (error as? Errno)?.number {
        case EPERM, EACCES: "\(error): it needs CAP_NET_ADMIN; run it as root (sudo)"
        case ENOENT:
            "\(error): the socket is gone, or the kernel finds another in its place; end its program"
        case EOPNOTSUPP:
            "\(error): this kernel was built without CONFIG_INET_DIAG_DESTROY"
        default: "\(error)"
        }
    }
}
