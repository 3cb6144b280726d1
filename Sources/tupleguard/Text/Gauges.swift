// SPDX-License-Identifier: Apache-2.0
// How full something is, and when it will be, on a line of text.

/// "#######.........", of so many characters. Empty and full are shown only when they are.
func bar(_ usage: Double, width: Int = 20) -> String {
    let usage = min(1, max(0, usage))
    var filled = Int((usage * Double(width)).rounded())
    if usage > 0 { filled = max(1, filled) }
    if usage < 1 { filled = min(width - 1, filled) }
    return String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
}

/// "in 40 s", "in 7 min", "in 3 h", "in 12 days", "now".
func timeUntil(_ seconds: Double) -> String {
    switch seconds {
    case ..<0.5: "now"
    case ..<120: "in \(Int(seconds.rounded(.up))) s"
    case ..<7200: "in \(Int(seconds / 60)) min"
    case ..<172_800: "in \(Int(seconds / 3600)) h"
    case ..<31_536_000: "in \(Int(seconds / 86_400)) days"
    default: "in years"
    }
}
