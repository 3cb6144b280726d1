// SPDX-License-Identifier: Apache-2.0
// What the diagnosis wants to know of the guard.

package import TupleguardKernel
import TupleguardLinux

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
    /// Those of the guarded cgroups that have ports of their own, or a budget of connections.
    package let limited: [Limited]

    /// A guarded cgroup that may not have what it likes.
    package struct Limited: Sendable {
        package let path: String
        package let ports: ClosedRange<UInt16>?
        /// A sentence, where not every program may have these.
        package let portRemark: String?
        /// Whether its UDP sockets share them, whatever they ask for.
        package let sharesPorts: Bool
        package let connections: ConnectionBudget?
        /// Connects that were one too many, since it was attached.
        package let refusedByBudget: Int
        /// The errno of these, and of those that found no port.
        package let errno: String

        package init(
            path: String, ports: ClosedRange<UInt16>? = nil, portRemark: String? = nil,
            sharesPorts: Bool = true, connections: ConnectionBudget? = nil,
            refusedByBudget: Int = 0, errno: String = "EADDRNOTAVAIL"
        ) {
            self.path = path
            self.ports = ports
            self.portRemark = portRemark
            self.sharesPorts = sharesPorts
            self.connections = connections
            self.refusedByBudget = refusedByBudget
            self.errno = errno
        }
    }

    package init(
        cgroups: [String], claims: Int, tableSize: Int, largestTable: Int, eventsDropped: Int,
        refusedOutside: Int, withoutRoom: Int, remarks: [String] = [], refusedRewritten: Int = 0,
        limited: [Limited] = []
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
        self.limited = limited
    }

    /// Whether a cgroup is guarded, itself or by one above it.
    package func covers(_ path: String) -> Bool {
        cgroups.contains { Cgroup.isPath(path, atOrBelow: $0) }
    }
}

extension GuardFacts {
    /// - Throws: `GuardError.noGuard` where no cgroup is guarded.
    package init(_ state: GuardState) throws {
        let counted = try state.countedAttachments()
        if counted.isEmpty { throw GuardError.noGuard(path: state.folder) }
        let attachments = counted.map(\.attachment)
        let counters = counted.reduce(Counters()) { $0 + $1.counters }
        self.init(
            cgroups: attachments.compactMap(\.path), claims: try state.claimCount(),
            tableSize: try state.tableSize(), largestTable: GuardError.tableSizes.upperBound,
            eventsDropped: Int(clamping: counters[.eventsDropped]),
            refusedOutside: Int(clamping: counters[.refusedOutside]),
            withoutRoom: Int(clamping: counters[.allowedTableFull])
                + Int(clamping: counters[.refusedTableFull]),
            remarks: try state.remarks(on: attachments),
            refusedRewritten: Int(clamping: counters[.refusedRewritten]),
            limited: try counted.compactMap { try Self.Limited($0, $1, of: state) })
    }
}

extension GuardFacts.Limited {
    /// Nil for a cgroup without limits, and for one that is gone.
    fileprivate init?(_ attachment: Attachment, _ counters: Counters, of state: GuardState) throws {
        let policy = attachment.policy
        guard let path = attachment.path, policy.ports != nil || policy.maxConnections != nil
        else { return nil }
        self.init(
            path: path, ports: policy.ports, portRemark: policy.portRemark(),
            sharesPorts: policy.sharesPorts, connections: try state.connections(of: attachment),
            refusedByBudget: Int(clamping: counters[.refusedBudget]),
            errno: policy.whenExhausted.rawValue)
    }
}
