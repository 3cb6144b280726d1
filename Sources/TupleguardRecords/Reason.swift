// SPDX-License-Identifier: Apache-2.0
// Why the guard had something against a connect.

/// Why a connect was a conflict. The raw value is its name for machines, which is stable.
///
/// A new one takes a case, a sentence here, and a line in TupleguardKernel's ConflictEvents.swift.
package enum Reason: String, Codable, CaseIterable, Sendable {
    case held
    case inFlight = "in-flight"
    case ambiguous
    case outside
    case tableFull = "table-full"
    case busy
    case existing
    case exhausted
    case unlocked
    case shadow
    case outsider
    case rewritten
    case budget

    /// For people, after "because".
    package var explanation: String {
        switch self {
        case .held: "another socket is connected with this tuple"
        case .inFlight: "another socket claimed it less than a second ago"
        case .ambiguous: "one side has no fixed local address, so the tuples may be the same"
        case .outside: "a socket outside the guarded cgroup is connected with this tuple"
        case .tableFull: "the claim table is full"
        case .busy: "too many connects are in flight on this socket"
        case .existing: "both sockets were connected before the guard was attached"
        case .exhausted: "every local port is taken for this destination"
        case .unlocked: "the kernel chose its port, which could still change (strict)"
        case .shadow: "both sockets hold it, and one of them has not claimed it"
        case .outsider:
            "a socket in a guarded cgroup is connected with this tuple, and this one is outside"
        case .rewritten:
            "the socket that claimed it was sent to another destination after the guard had seen it"
        case .budget: "the cgroup has as many connections open as it may"
        }
    }

    /// Whether it is about a destination, and no one socket is in the way: every port, or all that
    /// the cgroup may have open, are.
    package var concernsDestination: Bool { self == .exhausted || self == .budget }

    /// Whether both sockets held the tuple when it was found out: nothing was refused, nor let
    /// through.
    package var isFound: Bool { self == .existing || self == .shadow }
}
