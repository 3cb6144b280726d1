// SPDX-License-Identifier: Apache-2.0
// How often something happened, and what that says of how often it happens.

/// Trials, and in how many of them something happened.
package struct Proportion: Sendable {
    package private(set) var count = 0
    package private(set) var trials = 0

    package init(_ count: Int = 0, of trials: Int = 0) {
        self.count = count
        self.trials = trials
    }

    mutating func add(_ happened: Bool) {
        trials += 1
        if happened { count += 1 }
    }

    /// 0 to 1; nil when nothing was tried.
    package var share: Double? { trials > 0 ? Double(count) / Double(trials) : nil }

    /// Where the true share is, with 95% confidence: Wilson's score interval, which says something
    /// of shares near 0 and 1, and where something happened never or always, too.
    package var interval: ClosedRange<Double> {
        guard let share else { return 0...1 }
        let z = 1.959964  // of the normal distribution: 2.5% are beyond it on either side
        let n = Double(trials)
        let spread = z * z / n
        let middle = (share + spread / 2) / (1 + spread)
        let half =
            z * ((share * (1 - share) + spread / 4) / n).squareRoot() / (1 + spread)
        // Rounding would leave a trace where nothing is.
        let low = count == 0 ? 0 : max(0, middle - half)
        let high = count == trials ? 1 : min(1, middle + half)
        return low...high
    }
}

extension Proportion: Encodable {
    private enum CodingKeys: CodingKey {
        case count, trials, share, low, high
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(count, forKey: .count)
        try container.encode(trials, forKey: .trials)
        try container.encodeIfPresent(share, forKey: .share)
        try container.encode(interval.lowerBound, forKey: .low)
        try container.encode(interval.upperBound, forKey: .high)
    }
}
