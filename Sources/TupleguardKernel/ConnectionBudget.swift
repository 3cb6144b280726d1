// SPDX-License-Identifier: Apache-2.0
// How many connections a guarded cgroup may have open: the room that counting them takes, and how
// many there are.

import TupleguardABI
import TupleguardLinux
import TupleguardSockets

/// The connections of a guarded cgroup that has a budget of them.
package struct ConnectionBudget: Sendable, Equatable {
    /// What `--max-connections` may be.
    package static let limits = 1...(1 << 20)

    package let limit: Int
    /// Sockets that count. One that was disconnected and not closed does so until another wants its
    /// place.
    package let used: Int

    package init(limit: Int, used: Int) {
        self.limit = limit
        self.used = used
    }

    /// "12 of 100"
    package var description: String { "\(grouped(used)) of \(grouped(limit))" }

    /// Below this a raised limit finds room.
    private static let leastRoom = 8192

    static func write(_ limit: Int?, to policy: inout tg_policy) {
        guard let limit else { return }
        policy.max_connections = UInt32(limit)
        // At least half of what the programs look through is free (FREE_PROBES).
        policy.connections_mask = UInt32(max(64, GuardState.buckets(for: 2 * limit)) - 1)
    }

    /// Elements of the maps that a policy needs; more than it looks through, so that it can be
    /// given a higher limit.
    static func room(_ policy: tg_policy) -> Int {
        policy.max_connections == 0
            ? 1 : max(leastRoom, 2 * (Int(policy.connections_mask) + 1))
    }
}

extension GuardState {
    /// Whether a policy goes on with the count of connections that the cgroup's guard has.
    ///
    /// - Throws: `budgetOutgrown` where there is one that has no room for it.
    func keepCount(of cgroup: Cgroup, for policy: inout tg_policy) throws(GuardError) -> Bool {
        let folder = attachmentFolder(cgroup.id)
        guard policy.max_connections > 0,
            let old = try BPFMap(pinned: "\(folder)/policy").element(0, as: tg_policy.self),
            old.max_connections > 0
        else { return false }
        let room = try BPFMap(pinned: "\(folder)/\(MapName.connections.rawValue)").capacity
        guard Int(policy.connections_mask) < room else {
            throw .budgetOutgrown(asked: Int(policy.max_connections), most: room / 2)
        }
        // What was counted under a higher limit may be anywhere.
        policy.connections_mask = max(policy.connections_mask, old.connections_mask)
        return true
    }

    /// Makes sure that the maps by which an attachment's connections are counted are ours.
    func checkCount(in folder: String) throws(GuardError) {
        let shapes = try MapShape.all(tableSize: 64, buckets: nil)
        for name in MapName.counting {
            let path = "\(folder)/\(name.rawValue)"
            let shape = try BPFMap(pinned: path).shape
            if let expected = shapes[name]?.sized(as: shape), shape != expected {
                throw .damagedState(path: path, why: "it is \(shape), and should be \(expected)")
            }
        }
    }

    /// How many connections a guarded cgroup has open, of how many; nil where they are not counted.
    package func connections(of attachment: Attachment) throws -> ConnectionBudget? {
        guard let limit = attachment.policy.maxConnections else { return nil }
        let map = try BPFMap(
            pinned: "\(attachmentFolder(attachment.id))/\(MapName.budget.rawValue)")
        guard let budget = map.element(0, as: tg_budget.self) else {
            throw GuardError.damagedState(path: folder, why: "its budget has another size")
        }
        return ConnectionBudget(limit: limit, used: Int(budget.used))
    }
}
