// SPDX-License-Identifier: Apache-2.0
// What the doctor wants to know of the guard, whoever reads it.

/// The guard as it is attached.
public struct GuardFacts: Sendable {
    /// Paths of the guarded cgroups.
    public let cgroups: [String]
    public let claims: Int
    public let tableSize: Int
    /// The most that `tableSize` may be.
    public let largestTable: Int
    public let eventsDropped: Int
    /// Connects refused because a socket outside the guarded cgroups has the tuple.
    public let refusedOutside: Int
    /// Connects that found no room in the table, let through or refused.
    public let withoutRoom: Int

    public init(
        cgroups: [String], claims: Int, tableSize: Int, largestTable: Int, eventsDropped: Int,
        refusedOutside: Int, withoutRoom: Int
    ) {
        self.cgroups = cgroups
        self.claims = claims
        self.tableSize = tableSize
        self.largestTable = largestTable
        self.eventsDropped = eventsDropped
        self.refusedOutside = refusedOutside
        self.withoutRoom = withoutRoom
    }

    /// Whether a cgroup is guarded, itself or by one above it.
    public func covers(_ path: String) -> Bool {
        cgroups.contains { $0 == "/" || path == $0 || path.hasPrefix($0 + "/") }
    }
}

/// What could be seen of the guard.
public enum GuardSight: Sendable {
    case attached(GuardFacts)
    case none
    /// With the reason.
    case unseen(String)
}
