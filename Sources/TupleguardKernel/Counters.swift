// SPDX-License-Identifier: Apache-2.0
// The guard's counters: what there is to count, and how often it happened.

import TupleguardABI

/// One thing that the guard counts. The raw value is its name, which is stable.
///
/// In the order of what an operator asks first. A new one takes a case and a line in `entry`.
package enum Counter: String, CaseIterable, Sendable {
    case refusedHeld = "refused_held"
    case refusedInFlight = "refused_in_flight"
    case refusedAmbiguous = "refused_ambiguous"
    case refusedOutside = "refused_outside"
    case refusedTableFull = "refused_table_full"
    case refusedBusy = "refused_busy"
    case refusedExhausted = "refused_exhausted"
    case refusedUnlocked = "refused_unlocked"
    case refusedOutsider = "refused_outsider"
    case refusedRewritten = "refused_rewritten"
    case refusedExhaustedTCP = "refused_exhausted_tcp"
    case refusedBudget = "refused_budget"
    case selfTests = "self_tests"
    case observed
    case allowedTableFull = "allowed_table_full"
    case claimed
    case reclaimed
    case released
    case pruned
    case takenOver = "taken_over"
    case discovered
    case givenTCP = "given_tcp"
    case portsBypassed = "ports_bypassed"
    case bound
    case unresolved
    case exclusivePort = "exclusive_port"
    case undiscoverable
    case exemptMulticast = "exempt_multicast"
    case exemptBroadcast = "exempt_broadcast"
    case alreadyRejected = "already_rejected"
    case counted
    case uncounted
    case eventsDropped = "events_dropped"
    // `discovered` in detail: how many ports were looked at before one was found.
    case probes1 = "probes_1"
    case probes2 = "probes_2"
    case probes4 = "probes_4"
    case probes8 = "probes_8"
    case probes16 = "probes_16"
    case probes32 = "probes_32"
    case probes64 = "probes_64"
    case probes128 = "probes_128"
    case probes256 = "probes_256"
    case probes512 = "probes_512"
    case probes1024 = "probes_1024"
    case probesMore = "probes_more"

    package enum Kind: Sendable {
        /// A connect was refused.
        case refusal
        /// A part of the histogram of probes, most of which is empty most of the time.
        case histogram
        case other
    }

    package var kind: Kind { entry.kind }

    /// What it counts, for people.
    package var meaning: String { entry.meaning }

    /// Where the programs count it.
    var field: KeyPath<tg_counters, UInt64> { entry.field }

    private var entry: (kind: Kind, field: KeyPath<tg_counters, UInt64>, meaning: String) {
        switch self {
        case .refusedHeld:
            (.refusal, \.refused_held, "refused: another socket is connected with the tuple")
        case .refusedInFlight:
            (
                .refusal, \.refused_in_flight,
                "refused: another socket claimed the tuple less than a second before"
            )
        case .refusedAmbiguous:
            (
                .refusal, \.refused_ambiguous,
                "refused: local address unknown beside sockets that share the port"
            )
        case .refusedOutside:
            (.refusal, \.refused_outside, "refused: a socket outside the cgroup holds the tuple")
        case .refusedTableFull:
            (.refusal, \.refused_table_full, "refused: no room for the claim")
        case .refusedBusy:
            (.refusal, \.refused_busy, "refused: too many connects in flight on one socket")
        case .refusedExhausted:
            (
                .refusal, \.refused_exhausted,
                "refused: every local port is taken for the destination"
            )
        case .refusedUnlocked:
            (
                .refusal, \.refused_unlocked,
                "refused: the port could still change, and the policy is strict"
            )
        case .refusedOutsider:
            (
                .refusal, \.refused_outsider,
                "refused to a socket outside: a guarded one holds the tuple"
            )
        case .refusedRewritten:
            (
                .refusal, \.refused_rewritten,
                "refused: the holder's destination was rewritten after its claim"
            )
        case .refusedExhaustedTCP:
            (
                .refusal, \.refused_exhausted_tcp,
                "refused to TCP: every port of the cgroup's own is taken for the destination"
            )
        case .refusedBudget:
            (
                .refusal, \.refused_budget,
                "refused: the cgroup has as many connections open as it may (--max-connections)"
            )
        case .selfTests:
            (
                .other, \.self_tests,
                "self-tests of connectx, which asks once a second whether a guard is there"
            )
        case .observed:
            (.other, \.observed, "conflicts let through, because the mode is observe")
        case .allowedTableFull:
            (.other, \.allowed_table_full, "let through without a claim: no room for it")
        case .claimed:
            (.other, \.claimed, "connects that claimed a tuple")
        case .reclaimed:
            (.other, \.reclaimed, "connects to a tuple that the socket had claimed already")
        case .released:
            (.other, \.released, "claims given back when their socket was closed")
        case .pruned:
            (
                .other, \.pruned,
                "claims given back because their connect failed or the socket moved on"
            )
        case .takenOver:
            (.other, \.taken_over, "stale claims of other sockets that made way")
        case .discovered:
            (.other, \.discovered, "claims for which the guard chose the local port")
        case .givenTCP:
            (.other, \.given_tcp, "TCP connects that were given a port of the cgroup's own")
        case .portsBypassed:
            (
                .other, \.ports_bypassed,
                "connects from a port outside the cgroup's own, which the program had bound"
            )
        case .bound:
            (.other, \.bound, "binds without a port for which the guard chose a free one")
        case .unresolved:
            (
                .other, \.unresolved,
                "let through: shared port (SO_REUSEADDR, SO_REUSEPORT) that the kernel was still to choose"
            )
        case .exclusivePort:
            (
                .other, \.exclusive_port,
                "let through: a port of its own, that the kernel was to choose"
            )
        case .undiscoverable:
            (
                .other, \.undiscoverable,
                "let through: the kernel did not let the guard choose a port"
            )
        case .exemptMulticast:
            (.other, \.exempt_multicast, "let through: multicast or 255.255.255.255")
        case .exemptBroadcast:
            (.other, \.exempt_broadcast, "let through: a subnet's broadcast address")
        case .alreadyRejected:
            (.other, \.already_rejected, "left alone: another program had rejected the connect")
        case .counted:
            (.other, \.counted, "sockets, TCP and UDP, that came to count as open connections")
        case .uncounted:
            (
                .other, \.uncounted,
                "of those, found not to be connected any more when others wanted to be"
            )
        case .eventsDropped:
            (
                .other, \.events_dropped,
                "events lost because nobody read them in time; every counter is still exact"
            )
        case .probes1:
            (.histogram, \.discovery_probes.0, "discovered at the first port looked at")
        case .probes2: (.histogram, \.discovery_probes.1, "discovered after 2 ports")
        case .probes4: (.histogram, \.discovery_probes.2, "discovered after 3 to 4 ports")
        case .probes8: (.histogram, \.discovery_probes.3, "discovered after 5 to 8 ports")
        case .probes16: (.histogram, \.discovery_probes.4, "discovered after 9 to 16 ports")
        case .probes32: (.histogram, \.discovery_probes.5, "discovered after 17 to 32 ports")
        case .probes64: (.histogram, \.discovery_probes.6, "discovered after 33 to 64 ports")
        case .probes128: (.histogram, \.discovery_probes.7, "discovered after 65 to 128 ports")
        case .probes256: (.histogram, \.discovery_probes.8, "discovered after 129 to 256 ports")
        case .probes512: (.histogram, \.discovery_probes.9, "discovered after 257 to 512 ports")
        case .probes1024:
            (.histogram, \.discovery_probes.10, "discovered after 513 to 1,024 ports")
        case .probesMore:
            (.histogram, \.discovery_probes.11, "discovered after more than 1,024 ports")
        }
    }
}

/// The counters of one guarded cgroup since it was attached, or their sum over several.
package struct Counters: Equatable, Sendable {
    private var values: [Counter: UInt64]

    /// Nothing has happened yet.
    package init() {
        self.init(perCPU: [])
    }

    init(perCPU: [tg_counters]) {
        values = Dictionary(
            uniqueKeysWithValues: Counter.allCases.map { counter in
                let field = counter.field
                return (counter, perCPU.reduce(0) { $0 &+ $1[keyPath: field] })
            })
    }

    package subscript(counter: Counter) -> UInt64 { values[counter] ?? 0 }

    /// Refused connects, of every reason.
    package var refused: UInt64 {
        Counter.allCases.reduce(0) { $1.kind == .refusal ? $0 &+ self[$1] : $0 }
    }

    /// Connects that claimed their tuple, for the first time or again.
    package var connectsClaimed: UInt64 { self[.claimed] &+ self[.reclaimed] }

    /// Every counter by its name, as it is written for machines.
    package var byName: [String: UInt64] {
        Dictionary(uniqueKeysWithValues: Counter.allCases.map { ($0.rawValue, self[$0]) })
    }

    package static func + (a: Counters, b: Counters) -> Counters {
        var sum = Counters()
        for counter in Counter.allCases { sum.values[counter] = a[counter] &+ b[counter] }
        return sum
    }
}

extension GuardState {
    /// The ports of their own that guarded cgroups have; none where that cannot be seen.
    package var ownRanges: [ClosedRange<UInt16>] {
        guard exists else { return [] }
        return ((try? attachments()) ?? []).compactMap(\.policy.ports)
    }

    /// All attachments, and what each has counted.
    package func countedAttachments() throws -> [(attachment: Attachment, counters: Counters)] {
        try attachments().map { ($0, try counters(of: $0.id)) }
    }

    /// The counters of one attachment.
    package func counters(of attachment: UInt64) throws -> Counters {
        let map = try BPFMap(pinned: "\(attachmentFolder(attachment))/counters")
        return Counters(perCPU: map.perCPUElement(0, as: tg_counters.self))
    }
}
