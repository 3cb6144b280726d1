// SPDX-License-Identifier: Apache-2.0
// How long a run of several parts will go on.

/// Parts of a run, one after the other, and how much of the time they have taken so far.
struct Forecast {
    private let expectedSeconds: [Double]
    private var start: ContinuousClock.Instant?
    private(set) var begun = 0

    /// - Parameter expectedSeconds: of each part, on a machine that does nothing else.
    init(_ expectedSeconds: [Double]) {
        self.expectedSeconds = expectedSeconds
    }

    var count: Int { expectedSeconds.count }

    mutating func beginNext(at time: ContinuousClock.Instant) {
        if start == nil { start = time }
        begun += 1
    }

    /// "about 40 s left", of the part that has just begun and those after it. A machine on which
    /// the parts before took longer than expected is expected to go on like that.
    func left(at time: ContinuousClock.Instant) -> String {
        let past = expectedSeconds.prefix(max(0, begun - 1)).reduce(0, +)
        let rest = expectedSeconds.dropFirst(max(0, begun - 1)).reduce(0, +)
        let taken = start.map { $0.duration(to: time) / .seconds(1) } ?? 0
        // What was expected counts for a while: two seconds are no experience.
        let slowness = (taken + 2) / (past + 2)
        let seconds = Int((rest * slowness).rounded(.up))
        return seconds < 120 ? "about \(seconds) s left" : "about \(seconds / 60) min left"
    }
}
