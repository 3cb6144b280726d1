// SPDX-License-Identifier: Apache-2.0
// How full something is, how fast it fills, and how urgent that makes it.

/// Two readings of something that can fill up.
package struct Filling: Hashable, Sendable {
    package let used: Int
    package let possible: Int
    /// A second; below zero when it empties, nil when it was read once.
    package let rate: Double?
    /// Whether it fills by more than chance.
    private let isTrend: Bool

    /// Where many come and go, one look finds some more than the other although nothing fills up.
    /// What is believed is three times the standard deviation of that.
    static let deviations = 3.0

    /// - Parameters:
    ///   - before: the earlier reading, if there was one.
    ///   - seconds: between the two.
    ///   - ended: how many of the earlier ones were gone at the second reading.
    package init(
        used: Int, possible: Int, before: Int? = nil, seconds: Double = 0, ended: Int = 0
    ) {
        self.used = used
        self.possible = possible
        if let before, seconds > 0 {
            let more = used - before
            rate = Double(more) / seconds
            // As many came as there are more, and those that took the place of the ended.
            let deviation = Double(max(0, more) + 2 * ended).squareRoot()
            isTrend = ended == 0 || Double(more) > Self.deviations * deviation
        } else {
            rate = nil
            isTrend = false
        }
    }

    /// 0 to 1. Nothing possible is full.
    package var usage: Double {
        possible > 0 ? min(1, Double(used) / Double(possible)) : 1
    }

    package var left: Int { max(0, possible - used) }

    package var isFull: Bool { used >= possible }

    /// At this rate; 0 when it is full, nil when it does not fill, or by no more than chance.
    package var secondsUntilFull: Double? {
        if isFull { return 0 }
        guard let rate, rate > 0, isTrend else { return nil }
        return Double(possible - used) / rate
    }

    static let nearlyFull = 0.9
    static let filling = 0.7
    /// Below this share a burst of one second says nothing about the next minutes.
    static let tellingRate = 0.25
    static let minutesLeft = 5.0 * 60
    static let hourLeft = 60.0 * 60

    /// Nil when there is nothing to worry about.
    package var severity: Severity? {
        let time = usage >= Self.tellingRate ? secondsUntilFull : nil
        if usage >= Self.nearlyFull || time.map({ $0 <= Self.minutesLeft }) == true {
            return .critical
        }
        if usage >= Self.filling || time.map({ $0 <= Self.hourLeft }) == true { return .warning }
        return nil
    }
}
