// SPDX-License-Identifier: Apache-2.0
// Numbers and names as a picture has them: how they are written, and how wide that is.

import TupleguardLinux

/// "28,232", "0.5", "0.001", "12.3": three significant digits where there are places.
package func lettered(_ value: Double) -> String {
    guard value.isFinite else { return "?" }
    let size = abs(value)
    guard size < 1e15 else { return "\(value)" }
    guard size > 0 && size < 100 else { return grouped(Int(value.rounded())) }
    var places = 2
    var least = 1.0
    while size < least && places < 12 {
        places += 1
        least /= 10
    }
    if size >= 10 { places = 1 }
    let scale = (0..<places).reduce(1.0) { product, _ in product * 10 }
    let digits = String(Int((size * scale).rounded()))
    let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
    var fraction = padded.suffix(places)
    while fraction.last == "0" { fraction.removeLast() }
    let whole = (value < 0 ? "-" : "") + padded.dropLast(places)
    return fraction.isEmpty ? whole : "\(whole).\(fraction)"
}

/// A coordinate: a tenth of a pixel is fine enough.
func coordinate(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    let sign = tenths < 0 ? "-" : ""
    let (whole, tenth) = tenths.magnitude.quotientAndRemainder(dividingBy: 10)
    return tenth == 0 ? "\(sign)\(whole)" : "\(sign)\(whole).\(tenth)"
}

/// How wide a text is at most, in pixels, whatever font the reader has: measured against DejaVu
/// Sans, the widest of those that are common.
func textWidth(_ text: String, size: Double = Style.textSize) -> Double {
    size * text.unicodeScalars.reduce(0) { $0 + relativeWidth($1) }
}

private func relativeWidth(_ character: Unicode.Scalar) -> Double {
    switch character {
    case " ", "i", "j", "l", "I", ".", ",", ":", ";", "'", "|", "!", "(", ")", "[", "]", "/", "f",
        "t":
        0.42
    case "m", "w", "M", "W", "%", "@", "\u{2026}": 1.02
    case "A"..."Z", "_", "+", "=", "<", ">", "~", "#", "&": 0.86
    case "\u{20}"..."\u{7e}": 0.66
    case ...("\u{2ff}"): 0.8
    default: 1.2
    }
}

/// The text, or as much of it as has room, with "…" for the rest.
func fitted(_ text: String, into room: Double, size: Double = Style.textSize) -> String {
    if textWidth(text, size: size) <= room { return text }
    var shortened = text
    while !shortened.isEmpty && textWidth(shortened + "…", size: size) > room {
        shortened.removeLast()
    }
    return shortened + "…"
}

/// The text in lines that have room; a word that has none is shortened.
func wrapped(_ text: String, into room: Double, size: Double = Style.textSize) -> [String] {
    var lines: [String] = []
    for word in text.split(separator: " ") {
        let word = fitted(String(word), into: room, size: size)
        if let last = lines.last, textWidth("\(last) \(word)", size: size) <= room {
            lines[lines.count - 1] = "\(last) \(word)"
        } else {
            lines.append(word)
        }
    }
    return lines
}
