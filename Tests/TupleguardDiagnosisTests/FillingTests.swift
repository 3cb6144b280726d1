// SPDX-License-Identifier: Apache-2.0
// Rates, bars and words: arithmetic that must not surprise.

import Testing

@testable import TupleguardDiagnosis

@Suite struct FillingTests {
    @Test func theRateComesFromTwoReadings() {
        let filling = Filling(used: 600, possible: 1000, before: 580, seconds: 2)
        #expect(filling.rate == 10)
        #expect(filling.secondsUntilFull == 40)
        #expect(Filling(used: 600, possible: 1000).rate == nil)
        #expect(Filling(used: 600, possible: 1000, before: 1, seconds: 0).rate == nil)
        #expect(Filling(used: 580, possible: 1000, before: 600, seconds: 1).secondsUntilFull == nil)
        #expect(Filling(used: 600, possible: 1000, before: 600, seconds: 1).secondsUntilFull == nil)
        #expect(Filling(used: 1000, possible: 1000).secondsUntilFull == 0)
    }

    @Test(
        arguments: [
            (0, nil, nil), (500, 500, nil), (699, 699, nil), (700, nil, .warning),
            (899, nil, .warning), (900, nil, .critical), (1000, nil, .critical),
            // 500 left at 1 a second: 8 minutes. At 2: four.
            (500, 499, .warning), (500, 498, .critical),
            // 500 left at 0.1 a second would be needed for more than an hour: 1 in this second is
            // not.
            (200, 100, nil),
        ] as [(Int, Int?, Severity?)])
    func severityFollowsShareAndTime(_ used: Int, _ before: Int?, _ expected: Severity?) {
        let filling = Filling(used: used, possible: 1000, before: before, seconds: 1)
        #expect(filling.severity == expected)
    }

    @Test func nothingPossibleIsFull() {
        #expect(Filling(used: 0, possible: 0).usage == 1)
        #expect(Filling(used: 5, possible: 3).usage == 1)
    }

    @Test func theWorstComesFirstThenTheSoonestThenTheFullest() {
        let findings = [
            Finding(.info, .smallRange, "info", usage: 0.99),
            Finding(.critical, .overshadowed, "fuller", usage: 0.95),
            Finding(.critical, .overshadowed, "full", usage: 0.9),
            Finding(.critical, .descriptors, "soon", usage: 0.3, secondsUntilFull: 60),
            Finding(.warning, .descriptors, "sooner, and milder", secondsUntilFull: 1),
        ]
        let sorted = findings.sorted { $0.isMoreUrgent(than: $1) }.map(\.what)
        #expect(sorted == ["soon", "fuller", "full", "sooner, and milder", "info"])
    }

    @Test func aGuardCoversWhatIsBelowIt() {
        func facts(_ cgroups: [String]) -> GuardFacts {
            GuardFacts(
                cgroups: cgroups, claims: 0, tableSize: 1, largestTable: 1, eventsDropped: 0,
                refusedOutside: 0, withoutRoom: 0)
        }
        #expect(facts(["/"]).covers("/a/b"))
        #expect(facts(["/a"]).covers("/a"))
        #expect(facts(["/a"]).covers("/a/b"))
        #expect(!facts(["/a"]).covers("/ab"))
        #expect(!facts(["/a/b"]).covers("/a"))
        #expect(!facts([]).covers("/"))
    }

    /// So many more, of which so many ended meanwhile.
    @Test(
        arguments: [
            (1, 0, true), (9, 1, false), (11, 1, true), (30, 50, false), (40, 50, true),
            (0, 50, false), (-5, 50, false),
        ] as [(Int, Int, Bool)])
    func aChangeThatMayBeChanceIsNoTrend(_ more: Int, _ ended: Int, _ isTrend: Bool) {
        let filling = Filling(
            used: 500, possible: 1000, before: 500 - more, seconds: 1, ended: ended)
        #expect((filling.secondsUntilFull != nil) == isTrend)
        #expect(filling.rate == Double(more))
    }
}
