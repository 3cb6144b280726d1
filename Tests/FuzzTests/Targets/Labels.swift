// SPDX-License-Identifier: Apache-2.0
// Values of labels, in what Prometheus scrapes: names of cgroups and programs are in them.

import TupleguardLinux

@testable import TupleguardMetrics

/// Two labels of any text make one line of a metric, from which a scraper reads what they were:
/// cut off at the longest, and with "?" for what is unfit to be shown.
@Sendable func acceptsLabels(_ input: UnsafeRawBufferPointer) throws -> Bool {
    let parts = input.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    let values = parts.map { String(decoding: $0, as: UTF8.self) }
    var family = MetricFamily("fuzz", .gauge, "Labels of any text.")
    family.add(values.enumerated().map { ("l\($0.offset)", $0.element) }, 7)
    for format in [ExpositionFormat.openMetrics, .prometheusText] {
        let text = format.render([family])
        let lines = text.unicodeScalars.split(separator: "\n").filter { $0.first != "#" }
        try require(lines.count == 1, "\(lines.count) lines of one sample: \(text)")
        let labels = readLabels(Array(lines[0]))
        try require(labels?.rest == " 7", "not a sample: \(text)")
        try require(labels?.values == values.map(expected), "other labels: \(text)")
    }
    return values.contains { $0.utf8.contains { "\\\"\n".utf8.contains($0) } }
}

private func expected(_ value: String) -> [Unicode.Scalar] {
    value.unicodeScalars.prefix(MetricFamily.longestLabel).map { scalar in
        scalar != "\n" && scalar.isUnfitToBeShown ? "?" : scalar
    }
}

/// Reads `fuzz{l0="…",l1="…"} 7` as the format's grammar has it; nil where it is not so.
private func readLabels(
    _ line: [Unicode.Scalar]
) -> (values: [[Unicode.Scalar]], rest: String)? {
    var rest = line[...]
    func take(_ word: String) -> Bool {
        guard rest.starts(with: word.unicodeScalars) else { return false }
        rest = rest.dropFirst(word.unicodeScalars.count)
        return true
    }
    guard take("fuzz") else { return nil }
    var values: [[Unicode.Scalar]] = []
    while take(values.isEmpty ? "{" : ",") {
        guard take("l\(values.count)=\"") else { return nil }
        var value: [Unicode.Scalar] = []
        while let scalar = rest.popFirst(), scalar != "\"" {
            guard scalar == "\\" else {
                value.append(scalar)
                continue
            }
            switch rest.popFirst() {
            case "n": value.append("\n")
            case "\\": value.append("\\")
            case "\"": value.append("\"")
            default: return nil
            }
        }
        values.append(value)
    }
    guard take("}") else { return nil }
    return (values, String(String.UnicodeScalarView(rest)))
}
