// SPDX-License-Identifier: Apache-2.0
// Numbers for people: this way wherever something is counted. Ports, pids and the values of options
// are written as they are typed.

/// "28,232"
package func grouped(_ number: some BinaryInteger) -> String {
    let digits = String(number.magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
        if index > 0 && (digits.count - index) % 3 == 0 { text += "," }
        text.append(digit)
    }
    return (number < 0 ? "-" : "") + text
}

/// "1 socket", "1,200 sockets", "2 processes".
package func amount(_ number: some BinaryInteger, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(grouped(number)) \(noun)\(noun.hasSuffix("s") ? "es" : "s")"
}

/// "1 socket shares", "2 sockets share".
package func amount(
    _ number: some BinaryInteger, _ noun: String, _ singular: String, _ plural: String
) -> String {
    "\(amount(number, noun)) \(number == 1 ? singular : plural)"
}

/// "70%"; 100% only when it is.
package func percent(_ usage: Double) -> String {
    usage < 1 ? "\(min(99, Int((usage * 100).rounded())))%" : "100%"
}

/// "+30/s", "-2/s"; nil when there is no change to speak of.
package func rateText(_ rate: Double?) -> String? {
    guard let rate, abs(rate) >= 0.5 else { return nil }
    return (rate > 0 ? "+" : "") + grouped(Int(rate.rounded())) + "/s"
}
