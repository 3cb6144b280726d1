// SPDX-License-Identifier: Apache-2.0
// The guard's counters, with names that explain themselves.

internal import GuardABI

/// Counters of one guarded cgroup since it was attached, or their sum over several.
public struct Counters: Hashable, Sendable {
    /// One counter: a stable name, and what it counts.
    public struct Description: Sendable {
        public let name: String
        public let meaning: String
    }

    fileprivate typealias Field = (
        name: String, meaning: String, path: KeyPath<tg_counters, UInt64>
    )

    // In the order of what an operator asks first.
    nonisolated(unsafe) private static let fields: [Field] = [
        ("refused_held", "refused: another socket is connected with the tuple", \.refused_held),
        (
            "refused_in_flight",
            "refused: another socket claimed the tuple less than a second before",
            \.refused_in_flight
        ),
        (
            "refused_ambiguous",
            "refused: local address unknown beside sockets that share the port",
            \.refused_ambiguous
        ),
        (
            "refused_outside", "refused: a socket outside the cgroup holds the tuple",
            \.refused_outside
        ),
        ("refused_table_full", "refused: no room for the claim", \.refused_table_full),
        ("refused_busy", "refused: too many connects in flight on one socket", \.refused_busy),
        ("observed", "conflicts let through, because the mode is observe", \.observed),
        ("allowed_table_full", "let through without a claim: no room for it", \.allowed_table_full),
        ("claimed", "connects that claimed a tuple", \.claimed),
        ("reclaimed", "connects to a tuple that the socket had claimed already", \.reclaimed),
        ("released", "claims given back when their socket was closed", \.released),
        (
            "pruned", "claims given back because their connect failed or the socket moved on",
            \.pruned
        ),
        ("taken_over", "stale claims of other sockets that made way", \.taken_over),
        (
            "unresolved",
            "let through: shared port (SO_REUSEADDR) that the kernel was still to choose",
            \.unresolved
        ),
        (
            "exclusive_port", "let through: a port of its own, that the kernel was to choose",
            \.exclusive_port
        ),
        ("exempt_multicast", "let through: multicast or 255.255.255.255", \.exempt_multicast),
        ("exempt_broadcast", "let through: a subnet's broadcast address", \.exempt_broadcast),
        (
            "already_rejected", "left alone: another program had rejected the connect",
            \.already_rejected
        ),
        (
            "events_dropped",
            "events lost because nobody read them in time; every counter is still exact",
            \.events_dropped
        ),
    ]

    /// Every counter, in the order of `values`.
    public static let descriptions = fields.map { Description(name: $0.name, meaning: $0.meaning) }

    /// In the order of `descriptions`.
    public private(set) var values: [UInt64]

    public init() {
        values = [UInt64](repeating: 0, count: Self.fields.count)
    }

    init(perCPU: [tg_counters]) {
        values = Self.fields.map { field in
            perCPU.reduce(0) { $0 &+ $1[keyPath: field.path] }
        }
    }

    /// The counter of that name.
    public subscript(name: String) -> UInt64 {
        Self.fields.firstIndex { $0.name == name }.map { values[$0] } ?? 0
    }

    /// Refused connects, of every reason.
    public var refused: UInt64 {
        zip(Self.fields, values).reduce(0) { $1.0.name.hasPrefix("refused_") ? $0 &+ $1.1 : $0 }
    }

    public static func + (a: Counters, b: Counters) -> Counters {
        var sum = a
        for index in sum.values.indices { sum.values[index] &+= b.values[index] }
        return sum
    }
}

extension GuardState {
    /// The counters of one attachment.
    public func counters(of attachment: UInt64) throws -> Counters {
        let map = try BPFMap(pinned: "\(attachmentFolder(attachment))/counters")
        return Counters(perCPU: map.perCPUElement(0, as: tg_counters.self))
    }
}
