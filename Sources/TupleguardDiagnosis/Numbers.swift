// SPDX-License-Identifier: Apache-2.0
// Whole numbers for people.

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
