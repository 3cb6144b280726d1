// SPDX-License-Identifier: Apache-2.0
// How much a guarded cgroup has used of the ports of its own.

package import TupleguardHostSurvey
package import TupleguardKernel
import TupleguardLinux
package import TupleguardSockets

/// The ports of a cgroup's own, and how many of them a new connection cannot have.
package struct OwnPortsUse: Sendable {
    package let range: ClosedRange<UInt16>
    package let tcp: Filling
    package let udp: Filling

    package subscript(transport: Transport) -> Filling {
        switch transport {
        case .tcp: tcp
        case .udp: udp
        }
    }
}

extension Policy {
    /// Whether UDP sockets that have not asked for it share the ports that the guard gives them.
    var sharesPorts: Bool { discover == .all }
}

extension Survey {
    /// How much is in use of the ports of its own that a cgroup has; nil where it has none.
    ///
    /// Each port serves each destination, so it is the busiest one that tells. Where UDP sockets
    /// have a port to themselves, it is all those at an address. The range has to be among those
    /// that were looked at.
    package func ownPortsUse(_ policy: Policy) -> OwnPortsUse? {
        policy.ports.map { range in
            let pressures = pressures(in: range, since: nil)
            func fullest(_ transport: Transport) -> Filling {
                var taken = pressures.filter { $0.transport == transport }
                    .map { range.count - $0.filling.left }
                if transport == .udp && !policy.sharesPorts {
                    taken += fullestSources(in: range, since: nil).map(\.filling.used)
                }
                return Filling(used: taken.max() ?? 0, possible: range.count)
            }
            return OwnPortsUse(range: range, tcp: fullest(.tcp), udp: fullest(.udp))
        }
    }
}
