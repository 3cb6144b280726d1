// SPDX-License-Identifier: Apache-2.0
// What the samples come to one after the other: rates, and how they went.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel

/// The last samples, and the rates between them.
struct TopHistory {
    /// A number that goes up, as changes a second.
    struct Rate {
        /// Oldest first; as many as a sparkline has room for.
        private(set) var values: [Double] = []
        private var before: UInt64?
        private static let kept = 60

        var now: Double? { values.last }

        mutating func add(_ value: UInt64, seconds: Double) {
            // One that went down began anew: the guard was attached again.
            if let before, seconds > 0, value >= before {
                values.append(Double(value - before) / seconds)
                if values.count > Self.kept { values.removeFirst() }
            }
            before = value
        }
    }

    private(set) var claimed = Rate()
    private(set) var refused = Rate()
    private(set) var discovered = Rate()
    private(set) var last: TopSample?
    /// Looks of the last seconds, oldest first: what fills up is judged over all of them.
    private var surveys: [Survey] = []

    /// Nanoseconds over which filling is judged; a shorter time says more of chance.
    private static let window: UInt64 = 10_000_000_000

    mutating func add(_ sample: TopSample) {
        let seconds = last.map { Double(sample.host.survey.time - $0.host.survey.time) / 1e9 } ?? 0
        if let total = sample.host.guard?.total {
            claimed.add(total.connectsClaimed, seconds: seconds)
            refused.add(total.refused, seconds: seconds)
            discovered.add(total[.discovered], seconds: seconds)
        }
        surveys.append(sample.host.survey)
        while surveys.count > 2, sample.host.survey.time - surveys[1].time >= Self.window {
            surveys.removeFirst()
        }
        last = sample
    }

    /// Every busy destination of every namespace, with its rate.
    var pressures: [DestinationPressure] {
        guard let survey = surveys.last else { return [] }
        let earlier = surveys.count > 1 ? surveys.first : nil
        return survey.namespaces.flatMap { survey.pressures($0, since: earlier) }
    }
}
