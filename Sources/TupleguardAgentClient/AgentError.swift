// SPDX-License-Identifier: Apache-2.0
// What can go wrong with the agent, and with asking it, in sentences that name cause and remedy.

import TupleguardLinux
package import TupleguardSockets

package enum AgentError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Another agent has the lock of this run folder.
    case alreadyRunning(lock: String, pid: Int32?)
    /// Somebody took the guard off a cgroup, and the agent was told to give up then.
    case detached(path: String)
    /// A configuration that was read again has other addresses for metrics.
    case metricsAreFixed
    /// A system call failed, or an answer made no sense; `detail` says more where there is more.
    case failed(what: String, errno: Errno, detail: String)

    /// Others choose the names of cgroups.
    package var description: String { printable(sentence) }

    private var sentence: String {
        switch self {
        case .alreadyRunning(let lock, let pid):
            let who = pid.map { " (pid \($0))" } ?? ""
            return
                "another agent is running\(who) (lock on \(lock)); wait for it, or stop it"
        case .metricsAreFixed:
            return "the addresses of metrics change when the agent starts: restart it"
        case .detached(let path):
            return
                "somebody took the guard off \(path), and --on-detach is fail; to guard it again start the agent again"
        case .failed(let what, let errno, let detail):
            return "cannot \(what): \(errno)" + (detail.isEmpty ? "" : "; \(detail)")
        }
    }
}
