// SPDX-License-Identifier: Apache-2.0
// Scales, their ticks, and how numbers are written beside them.

import Testing

@testable import TupleguardPictures

@Suite struct ScaleTests {
    @Test(
        arguments: [
            (100.0, 5, [0, 20, 40, 60, 80, 100]), (97, 5, [0, 20, 40, 60, 80, 100]),
            (101, 5, [0, 50, 100, 150]), (0.3, 3, [0, 0.1, 0.2, 0.3]),
            (28_232, 6, [0, 5000, 10_000, 15_000, 20_000, 25_000, 30_000]),
            (7, 1, [0, 10]),
        ] as [(Double, Int, [Double])])
    func linearTicksAreRound(_ highest: Double, _ count: Int, _ ticks: [Double]) {
        let scale = Scale.linear(upTo: highest, from: 0, to: 100, count: count)
        #expect(scale.ticks.count == ticks.count)
        for (tick, wanted) in zip(scale.ticks, ticks) { #expect(abs(tick - wanted) < 1e-9) }
        #expect(scale.domain.upperBound >= highest - 1e-9)
    }

    /// There is no half a socket.
    @Test(
        arguments: [
            (1.0, 10, [0, 1]), (2, 10, [0, 1, 2]), (3, 2, [0, 2, 4]), (0, 5, [0, 1]),
            (10, 5, [0, 2, 4, 6, 8, 10]),
        ] as [(Double, Int, [Double])])
    func whatIsCountedHasWholeSteps(_ highest: Double, _ count: Int, _ ticks: [Double]) {
        let scale = Scale.linear(upTo: highest, from: 0, to: 100, count: count, isWhole: true)
        #expect(scale.ticks == ticks)
    }

    @Test(
        arguments: [
            ([1, 10, 1000], 9, [1, 10, 100, 1000]), ([0.004, 3], 9, [0.001, 0.01, 0.1, 1, 10]),
            ([5], 9, [1, 10]), ([1], 9, [1, 10]), ([0, -3, .nan, 20], 9, [10, 100]),
            ([], 9, [1, 10]),
            ([1e-9, 1], 3, [1e-9, 1e-6, 1e-3, 1]),
        ] as [([Double], Int, [Double])])
    func logarithmicTicksArePowersOfTen(_ values: [Double], _ count: Int, _ ticks: [Double]) {
        let scale = Scale.logarithmic(values, from: 0, to: 100, count: count)
        #expect(scale.ticks.count == ticks.count, "\(scale.ticks)")
        for (tick, wanted) in zip(scale.ticks, ticks) {
            #expect(abs(tick / wanted - 1) < 1e-9)
        }
    }

    @Test func placesAreBetweenTheEndsAndBeyondThemAtTheEnds() {
        let up = Scale.linear(upTo: 100, from: 300, to: 100, count: 5)
        #expect(up.position(0) == 300)
        #expect(up.position(25) == 250)
        #expect(up.position(1000) == 100)
        let across = Scale.logarithmic([1, 100], from: 10, to: 210, count: 5)
        #expect(across.position(10) == 110)
        #expect(across.position(0) == 10)
        #expect(across.position(-1) == 10)
    }

    /// Whatever was measured: no number makes a scale without an end.
    @Test(arguments: [0, -1, .infinity, .nan, 1e-300, 1e300] as [Double])
    func strangeValuesMakeAScale(_ value: Double) {
        for scale in [
            Scale.linear(upTo: value, from: 0, to: 100, count: 5),
            .logarithmic([value], from: 0, to: 100, count: 5),
        ] {
            #expect(scale.ticks.count >= 2)
            #expect(scale.ticks.count < 20)
            #expect((0...100).contains(scale.position(1)))
        }
    }
}

@Suite struct LetteringTests {
    @Test(
        arguments: [
            (0, "0"), (0.5, "0.5"), (0.001, "0.001"), (0.01234, "0.0123"), (1, "1"), (2.5, "2.5"),
            (12.34, "12.3"), (99.97, "100"), (28_232, "28,232"), (-1.5, "-1.5"), (.nan, "?"),
        ] as [(Double, String)])
    func numbers(_ value: Double, _ text: String) {
        #expect(lettered(value) == text)
    }

    @Test func coordinatesHaveOnePlace() {
        #expect(
            [0, 1.04, 1.06, -0.06, -12.34].map(coordinate) == ["0", "1", "1.1", "-0.1", "-12.3"])
    }

    @Test func whatHasNoRoomIsShortened() {
        #expect(fitted("udp-connectx", into: 500) == "udp-connectx")
        let short = fitted(String(repeating: "w", count: 100), into: 100)
        #expect(short.hasSuffix("w…"))
        #expect(textWidth(short) <= 100)
        #expect(fitted("anything", into: 1) == "…")
    }

    @Test func linesAreBrokenAtSpaces() {
        let lines = wrapped("one two three four five six seven", into: 100)
        #expect(lines.count > 1)
        #expect(lines.joined(separator: " ") == "one two three four five six seven")
        for line in lines { #expect(textWidth(line) <= 100) }
    }
}
