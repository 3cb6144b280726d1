// SPDX-License-Identifier: Apache-2.0
// The guard's counters, with names that explain themselves.

import TupleguardABI

/// Counters of one guarded cgroup since it was attached, or their sum over several.
package struct Counters: Hashable, Sendable {
    /// One counter: a stable name, and what it counts.
    package struct Description: Sendable {
        package let name: String
        package let meaning: String
    }

    fileprivate typealias Field = (
        name: String, meaning: String, path: KeyPath<tg_counters, UInt64>
    )

    // In the order of what an operator asks first.
    nonisolated(unsafe) private static let mainFields: [Field] = [
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
        (
            "refused_exhausted", "refused: every local port is taken for the destination",
            \.refused_exhausted
        ),
        (
            "refused_unlocked", "refused: the port could still change, and the policy is strict",
            \.refused_unlocked
        ),
        (
            "self_tests",
            "self-tests of connectx, which asks once a second whether a guard is there",
            \.self_tests
        ),
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
        ("bound", "binds without a port for which the guard chose a free one", \.bound),
        ("discovered", "of these, connects for which the guard chose a port", \.discovered),
        (
            "unresolved",
            "let through: shared port (SO_REUSEADDR, SO_REUSEPORT) that the kernel was still to choose",
            \.unresolved
        ),
        (
            "exclusive_port", "let through: a port of its own, that the kernel was to choose",
            \.exclusive_port
        ),
        (
            "undiscoverable", "let through: the kernel did not let the guard choose a port",
            \.undiscoverable
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

    /// `discovered` in detail: how many ports were looked at before one was found.
    nonisolated(unsafe) private static let probeFields: [Field] = [
        ("probes_1", "discovered at the first port looked at", \.discovery_probes.0),
        ("probes_2", "discovered after 2 ports", \.discovery_probes.1),
        ("probes_4", "discovered after 3 to 4 ports", \.discovery_probes.2),
        ("probes_8", "discovered after 5 to 8 ports", \.discovery_probes.3),
        ("probes_16", "discovered after 9 to 16 ports", \.discovery_probes.4),
        ("probes_32", "discovered after 17 to 32 ports", \.discovery_probes.5),
        ("probes_64", "discovered after 33 to 64 ports", \.discovery_probes.6),
        ("probes_128", "discovered after 65 to 128 ports", \.discovery_probes.7),
        ("probes_256", "discovered after 129 to 256 ports", \.discovery_probes.8),
        ("probes_512", "discovered after 257 to 512 ports", \.discovery_probes.9),
        ("probes_1024", "discovered after 513 to 1,024 ports", \.discovery_probes.10),
        ("probes_more", "discovered after more than 1,024 ports", \.discovery_probes.11),
    ]

    nonisolated(unsafe) private static let fields = mainFields + probeFields

    /// Whether a counter belongs to the histogram of probes, most of which is empty most of the time.
    package static func isOfHistogram(_ description: Description) -> Bool {
        description.name.hasPrefix("probes_")
    }

    /// Every counter, in the order of `values`.
    package static let descriptions = fields.map { Description(name: $0.name, meaning: $0.meaning) }

    /// In the order of `descriptions`.
    package private(set) var values: [UInt64]

    package init() {
        values = [UInt64](repeating: 0, count: Self.fields.count)
    }

    init(perCPU: [tg_counters]) {
        values = Self.fields.map { field in
            perCPU.reduce(0) { $0 &+ $1[keyPath: field.path] }
        }
    }

    /// The counter of that name.
    package subscript(name: String) -> UInt64 {
        Self.fields.firstIndex { $0.name == name }.map { values[$0] } ?? 0
    }

    /// Refused connects, of every reason.
    package var refused: UInt64 {
        zip(Self.fields, values).reduce(0) { $1.0.name.hasPrefix("refused_") ? $0 &+ $1.1 : $0 }
    }

    package static func + (a: Counters, b: Counters) -> Counters {
        var sum = a
        for index in sum.values.indices { sum.values[index] &+= b.values[index] }
        return sum
    }
}

extension GuardState {
    /// The counters of one attachment.
    package func counters(of attachment: UInt64) throws -> Counters {
        let map = try BPFMap(pinned: "\(attachmentFolder(attachment))/counters")
        return Counters(perCPU: map.perCPUElement(0, as: tg_counters.self))
    }
}
