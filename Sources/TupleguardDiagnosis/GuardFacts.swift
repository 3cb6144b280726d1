// SPDX-License-Identifier: Apache-2.0
// What the diagnosis wants to know of the guard.

package import TupleguardKernel

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
    /// Of these a sentence each: programs that may send sockets elsewhere after the guard, and what
    /// keeps sockets outside from being seen at the root.
    package let remarks: [String]
    /// Connects refused because the holder of the tuple was sent elsewhere.
    package let refusedRewritten: Int
    /// Connects that found no room in the table, let through or refused.
    package let withoutRoom: Int

    package init(
        cgroups: [String], claims: Int, tableSize: Int, largestTable: Int, eventsDropped: Int,
        refusedOutside: Int, withoutRoom: Int, remarks: [String] = [], refusedRewritten: Int = 0
    ) {
        self.cgroups = cgroups
        self.claims = claims
        self.tableSize = tableSize
        self.largestTable = largestTable
        self.eventsDropped = eventsDropped
        self.refusedOutside = refusedOutside
        self.withoutRoom = withoutRoom
        self.remarks = remarks
        self.refusedRewritten = refusedRewritten
    }

    /// Whether a cgroup is guarded, itself or by one above it.
    package func covers(_ path: String) -> Bool {
        cgroups.contains { $0 == "/" || path == $0 || path.hasPrefix($0 + "/") }
    }
}

extension GuardFacts {
    /// - Throws: `GuardError.noGuard` where no cgroup is guarded.
    package init(_ state: GuardState) throws {
        let attachments = try state.attachments()
        if attachments.isEmpty { throw GuardError.noGuard(path: state.folder) }
        let counters = try attachments.reduce(Counters()) { try $0 + state.counters(of: $1.id) }
        self.init(
            cgroups: attachments.compactMap(\.path), claims: try state.claimCount(),
            tableSize: try state.tableSize(), largestTable: GuardError.tableSizes.upperBound,
            eventsDropped: Int(clamping: counters[.eventsDropped]),
            refusedOutside: Int(clamping: counters[.refusedOutside]),
            withoutRoom: Int(clamping: counters[.allowedTableFull])
                + Int(clamping: counters[.refusedTableFull]),
            remarks: try state.remarks(on: attachments),
            refusedRewritten: Int(clamping: counters[.refusedRewritten]))
    }
}

/// What could be seen of the guard.
package enum GuardSight: Sendable {
    case attached(GuardFacts)
    case none
    /// With the reason.
    case unseen(String)

    /// Looks at a guard's state, as far as we may.
    package init(of state: GuardState) {
        do {
            try Platform.requireCapabilities()
            self = .attached(try GuardFacts(state))
        } catch GuardError.noGuard {
            self = .none
        } catch {
            self = .unseen("\(error)")
        }
    }
}
