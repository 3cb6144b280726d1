// SPDX-License-Identifier: Apache-2.0
// Destroying the socket that receives, so that the one that it overshadows does again.

import Glibc
package import TupleguardHostSurvey
import TupleguardSockets

/// What came of destroying the receiver of a tuple.
package struct Resolution: Sendable {
    /// Why it could not be destroyed, and what to do; nil when it was.
    package let error: String?
    /// Sockets that are overshadowed still, by one that was so itself.
    package let remaining: Int

    package var isDestroyed: Bool { error == nil }

    package init(destroyingReceiverOf shadow: Shadow) {
        do {
            try shadow.destroyReceiver()
            error = nil
            remaining = shadow.overshadowed.count - 1
        } catch {
            self.error = Self.explain(error)
            remaining = shadow.overshadowed.count
        }
    }

    private static func explain(_ error: any Error) -> String {
        switch (error as? Errno)?.number {
        case EPERM, EACCES: "\(error): it needs CAP_NET_ADMIN; run it as root (sudo)"
        case ENOENT: "\(error): the socket is gone, or receives no more"
        case EOPNOTSUPP:
            "\(error): this kernel was built without CONFIG_INET_DIAG_DESTROY"
        default: "\(error)"
        }
    }
}
