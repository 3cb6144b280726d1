// SPDX-License-Identifier: Apache-2.0
// Counters: none is forgotten, none counted twice, sums are right.

import Testing
import TupleguardABI

@testable import TupleguardKernel

struct CounterTests {
    /// The fields of tg_counters in the order of the struct.
    private static let names = [
        "claimed", "reclaimed", "released", "pruned", "taken_over", "refused_held",
        "refused_in_flight", "refused_ambiguous", "refused_outside", "refused_table_full",
        "refused_busy", "refused_exhausted", "refused_unlocked", "refused_outsider",
        "refused_rewritten", "refused_exhausted_tcp", "refused_budget", "self_tests", "observed",
        "allowed_table_full", "exempt_multicast", "exempt_broadcast", "bound", "discovered",
        "given_tcp", "ports_bypassed", "probes_1", "probes_2", "probes_4", "probes_8",
        "probes_16", "probes_32", "probes_64", "probes_128", "probes_256", "probes_512",
        "probes_1024", "probes_more", "unresolved", "exclusive_port", "undiscoverable",
        "already_rejected", "counted", "uncounted", "events_dropped",
    ]

    private static let wordCount = MemoryLayout<tg_counters>.size / 8

    /// 1, 2, 4, … in the words of the struct.
    private var powers: tg_counters {
        var counters = tg_counters()
        withUnsafeMutableBytes(of: &counters) { bytes in
            for word in 0..<Self.wordCount {
                bytes.storeBytes(of: 1 << UInt64(word), toByteOffset: 8 * word, as: UInt64.self)
            }
        }
        return counters
    }

    @Test("Every word of the struct is one counter, and every counter has a meaning of its own")
    func everyWordOnce() {
        let counters = Counters(perCPU: [powers])
        #expect(
            Counter.allCases.map { counters[$0] }.sorted()
                == (0..<Self.wordCount).map { 1 << UInt64($0) })
        #expect(Set(Counter.allCases.map(\.meaning)).count == Self.wordCount)
        #expect(Counter.allCases.allSatisfy { !$0.meaning.isEmpty })
    }

    @Test("Every counter has the name of its field")
    func names() {
        let byName = Counters(perCPU: [powers]).byName
        #expect(byName.count == Self.wordCount)
        #expect(Self.names.count == Self.wordCount)
        for (word, name) in Self.names.enumerated() {
            #expect(byName[name] == 1 << UInt64(word), "\(name)")
        }
    }

    @Test("Refused is every reason to refuse, and nothing else")
    func refused() {
        let counters = Counters(perCPU: [powers])
        let expected = Self.names.indices.filter { Self.names[$0].hasPrefix("refused") }
        #expect(expected.count == 12)
        #expect(counters.refused == expected.reduce(0) { $0 + 1 << UInt64($1) })
        #expect(Counters().refused == 0)
    }

    @Test("CPUs are added up", arguments: [0, 1, 2, 64])
    func perCPU(count: Int) {
        let counters = Counters(perCPU: [tg_counters](repeating: powers, count: count))
        for (word, name) in Self.names.enumerated() {
            #expect(counters.byName[name] == UInt64(count) << UInt64(word))
        }
    }

    @Test("Cgroups are added up")
    func sum() {
        let one = Counters(perCPU: [powers])
        let sum = one + one + Counters()
        #expect(sum.byName == one.byName.mapValues { 2 * $0 })
        #expect(sum.refused == 2 * one.refused)
        #expect(one + Counters() == one)
        #expect(Counter.allCases.allSatisfy { Counters()[$0] == 0 })
    }

    @Test("A counter that has come round is no reason to crash")
    func overflow() {
        var full = tg_counters()
        withUnsafeMutableBytes(of: &full) { bytes in
            for index in bytes.indices { bytes[index] = 0xff }
        }
        let counters = Counters(perCPU: [full, full])
        #expect(counters[.claimed] == UInt64.max - 1)
        #expect((counters + counters)[.claimed] == UInt64.max - 3)
        _ = counters.refused
    }
}
