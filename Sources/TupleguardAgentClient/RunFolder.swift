// SPDX-License-Identifier: Apache-2.0
// The folder in which a running agent can be found.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// Where a running agent keeps its lock and its sockets.
package struct RunFolder: Sendable {
    package static let defaultPath = "/run/tupleguard"
    package let path: String

    package init(path: String = RunFolder.defaultPath) {
        self.path = path
    }

    package var socket: String { path + "/agent.sock" }
    /// Where programs send notice of what they ran into without the guard.
    package var noticeSocket: String { path + "/report.sock" }
    package var lock: String { path + "/agent.lock" }

    /// The process id of the agent that runs; nil when none does.
    package var agent: Int32? {
        guard let file = try? OwnedDescriptor(path: lock, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        else {
            return nil
        }
        if flock(file.raw, LOCK_SH | LOCK_NB) == 0 { return nil }
        return contents(of: lock).flatMap { Int32($0.filter(\.isNumber)) } ?? 0
    }
}
