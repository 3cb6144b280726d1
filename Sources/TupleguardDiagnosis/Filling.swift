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

    /// Where many come and go, one look finds some more than the other although nothing fills up. What
    /// is believed is three times the standard deviation of that.
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

/// "#######.........", of so many characters. Empty and full are shown only when they are.
package func bar(_ usage: Double, width: Int = 20) -> String {
    let usage = min(1, max(0, usage))
    var filled = Int((usage * Double(width)).rounded())
    if usage > 0 { filled = max(1, filled) }
    if usage < 1 { filled = min(width - 1, filled) }
    return String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
}

/// "70%"; 100% only when it is.
package func percent(_ usage: Double) -> String {
    usage < 1 ? "\(min(99, Int((usage * 100).rounded())))%" : "100%"
}

/// "in 40 s", "in 7 min", "in 3 h", "in 12 days", "now".
package func timeUntil(_ seconds: Double) -> String {
    switch seconds {
    case ..<0.5: "now"
    case ..<120: "in \(Int(seconds.rounded(.up))) s"
    case ..<7200: "in \(Int(seconds / 60)) min"
    case ..<172_800: "in \(Int(seconds / 3600)) h"
    case ..<31_536_000: "in \(Int(seconds / 86_400)) days"
    default: "in years"
    }
}

/// "+30/s", "-2/s"; nil when there is no change to speak of.
package func rateText(_ rate: Double?) -> String? {
    guard let rate, abs(rate) >= 0.5 else { return nil }
    return (rate > 0 ? "+" : "") + grouped(Int(rate.rounded())) + "/s"
}
