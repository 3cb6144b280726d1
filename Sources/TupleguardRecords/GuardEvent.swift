// SPDX-License-Identifier: Apache-2.0
// What the guard did about one connect.

package import TupleguardSockets

/// A connect that the guard refused or would have refused, or a conflict that it found.
package struct GuardEvent: ConflictEvent {
    package static let source = ConflictSource.guard

    package enum Action: String, Codable, Sendable {
        case refused
        /// Let through and counted: the mode is observe, or the claim table is full.
        case observed
        /// Both sockets were there before the guard.
        case found
    }

    package let time: Timestamp
    package let action: Action
    package let reason: Reason
    package var transport = Transport.udp
    package let tuple: FourTuple
    /// Low half of the network namespace's cookie (SO_NETNS_COOKIE).
    package let networkNamespace: UInt32
    /// Path of the guarded cgroup whose guard decided; nil when it is not known.
    package var guardedCgroup: String?
    /// Its id; 0 for what was found when the table was filled, and where it cannot be told.
    package let guardedCgroupId: UInt64
    /// Who asked for the tuple; nil when nothing is known of it.
    package var claimant: ProcessIdentity?
    /// Who has it; nil when nothing is known of it.
    package var holder: ProcessIdentity?
    /// Cookies of their sockets (SO_COOKIE), 0 where one is not known. Not in JSON.
    package var (claimantCookie, holderCookie): (UInt64, UInt64) = (0, 0)

    package init(
        time: Timestamp, action: Action, reason: Reason, tuple: FourTuple,
        networkNamespace: UInt32, guardedCgroupId: UInt64, claimant: ProcessIdentity?,
        holder: ProcessIdentity?
    ) {
        self.time = time
        self.action = action
        self.reason = reason
        self.tuple = tuple
        self.networkNamespace = networkNamespace
        self.guardedCgroupId = guardedCgroupId
        self.claimant = claimant
        self.holder = holder
    }

    package func namingCgroups(_ path: (UInt64) -> String?) -> GuardEvent {
        var named = self
        named.guardedCgroup = path(guardedCgroupId)
        named.claimant = claimant?.namingCgroup(path)
        named.holder = holder?.namingCgroup(path)
        return named
    }

    /// What it is about: the tuple, or the destination where no port, or no connection of the
    /// cgroup's budget, was left for it.
    package var subject: String {
        let subject = reason.concernsDestination ? "\(tuple.remote)" : "\(tuple)"
        return transport == .udp ? subject : "\(subject) (\(transport.name))"
    }

    package var line: String {
        let claimant = claimant?.description ?? "unknown"
        // Where no port is left, there are thousands of holders.
        let holder = reason.concernsDestination ? nil : holder
        // Of a full table there is no holder, but there may be one who has most of it.
        let words = reason == .tableFull ? "most of the table is held by" : "held by"
        let held = holder.map { ", \(words) \($0)" } ?? ""
        return "\(action.rawValue) \(subject) for \(claimant)\(held): \(reason.explanation)"
    }
}

extension GuardEvent {
    private enum CodingKeys: CodingKey {
        case source, time, action, reason, transport, networkNamespace
        case guardedCgroup, guardedCgroupId, claimant, holder
    }

    package func encode(to encoder: any Encoder) throws {
        try tuple.encodeEnds(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Self.source, forKey: .source)
        try container.encode(time, forKey: .time)
        try container.encode(action, forKey: .action)
        try container.encode(reason, forKey: .reason)
        try container.encode(transport.name, forKey: .transport)
        try container.encode(networkNamespace, forKey: .networkNamespace)
        try container.encodeIfPresent(guardedCgroup, forKey: .guardedCgroup)
        try container.encode(guardedCgroupId, forKey: .guardedCgroupId)
        try container.encodeIfPresent(claimant, forKey: .claimant)
        try container.encodeIfPresent(holder, forKey: .holder)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            time: try container.decode(Timestamp.self, forKey: .time),
            action: try container.decode(Action.self, forKey: .action),
            reason: try container.decode(Reason.self, forKey: .reason),
            tuple: try FourTuple(endsFrom: decoder),
            networkNamespace: try container.decode(UInt32.self, forKey: .networkNamespace),
            guardedCgroupId: try container.decode(UInt64.self, forKey: .guardedCgroupId),
            claimant: try container.decodeIfPresent(ProcessIdentity.self, forKey: .claimant),
            holder: try container.decodeIfPresent(ProcessIdentity.self, forKey: .holder))
        guardedCgroup = try container.decodeIfPresent(String.self, forKey: .guardedCgroup)
        // An agent that knew of UDP alone did not name it.
        let name = try container.decodeIfPresent(String.self, forKey: .transport)
        guard let transport = Transport.allCases.first(where: { $0.name == name ?? "udp" }) else {
            throw DecodingError.dataCorruptedError(
                forKey: .transport, in: container, debugDescription: "of another version")
        }
        self.transport = transport
    }
}
