// SPDX-License-Identifier: Apache-2.0
// What the doctor wants to know of the guard, whoever reads it.

/// The guard as it is attached.
package struct GuardFacts: Sendable {
    /// Paths of the guarded cgroups.
    package let cgroups: [String]
    package let claims: Int
    package let tableSize: Int
    /// The most that `tableSize` may be.
    package let largestTable: Int
    package let eventsDropped: Int
    /// Connects refused because a socket outside the guarded cgroups has the tuple.
    package let refusedOutside: Int
    /// Connects that found no room in the table, let through or refused.
    package let withoutRoom: Int

    package init(
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
    package func covers(_ path: String) -> Bool {
        cgroups.contains { $0 == "/" || path == $0 || path.hasPrefix($0 + "/") }
    }
}

/// What could be seen of the guard.
package enum GuardSight: Sendable {
    case attached(GuardFacts)
    case none
    /// With the reason.
    case unseen(String)
}
