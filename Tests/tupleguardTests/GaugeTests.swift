// SPDX-License-Identifier: Apache-2.0
// Bars, and times to come, on a line of text.

import Testing

@testable import tupleguard

struct GaugeTests {
    @Test func barsShowEmptyAndFullOnlyWhenTheyAre() {
        #expect(bar(0, width: 10) == "..........")
        #expect(bar(0.001, width: 10) == "#.........")
        #expect(bar(0.5, width: 10) == "#####.....")
        #expect(bar(0.999, width: 10) == "#########.")
        #expect(bar(1, width: 10) == "##########")
        #expect(bar(7, width: 4) == "####")
        #expect(bar(-1, width: 4) == "....")
    }

    @Test(
        arguments: [
            (0, "now"), (0.2, "now"), (1, "in 1 s"), (40.1, "in 41 s"), (119, "in 119 s"),
            (120, "in 2 min"), (7199, "in 119 min"), (7200, "in 2 h"), (172_800, "in 2 days"),
            (40_000_000, "in years"),
        ] as [(Double, String)])
    func timesAreWordsOfOneUnit(_ seconds: Double, _ expected: String) {
        #expect(timeUntil(seconds) == expected)
    }
}
