// SPDX-License-Identifier: Apache-2.0
// Metrics as text that Prometheus reads: OpenMetrics 1.0, and the older text format 0.0.4.

import TupleguardLinux

/// All samples of one name.
package struct MetricFamily: Sendable {
    package enum Kind: String, Sendable {
        case counter, gauge
        /// A constant 1 whose labels say something.
        case info
    }

    /// A name and a value each; the value may be any text.
    package typealias Labels = [(name: String, value: String)]

    package enum Value: Sendable, Equatable {
        case integer(UInt64)
        case real(Double)
    }

    struct Sample: Sendable {
        /// As they are written, with the braces.
        let labels: String
        var value: Value
    }

    /// Without "_total" or "_info", which the kind adds.
    package let name: String
    package let kind: Kind
    package let help: String
    private(set) var samples: [Sample] = []
    private var places: [String: Int] = [:]

    package init(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        self.kind = kind
        self.help = help
    }

    /// One sample without labels.
    package init(_ name: String, _ kind: Kind, _ help: String, _ value: Int) {
        self.init(name, kind, help)
        add([], .integer(UInt64(max(0, value))))
    }

    /// Adds a sample. One with the labels of an earlier one, which the formats do not allow, is
    /// made a part of it: a counter's adds up, of a gauge's the larger one counts.
    package mutating func add(_ labels: Labels, _ value: Value) {
        let text = Self.text(of: labels)
        guard let place = places[text] else {
            places[text] = samples.count
            samples.append(Sample(labels: text, value: value))
            return
        }
        samples[place].value =
            kind == .counter
            ? samples[place].value + value : max(samples[place].value, value)
    }

    package mutating func add(_ labels: Labels, _ value: Int) {
        add(labels, .integer(UInt64(max(0, value))))
    }

    private static func text(of labels: Labels) -> String {
        guard !labels.isEmpty else { return "" }
        let parts = labels.map { "\($0.name)=\"\(escaped($0.value))\"" }
        return "{\(parts.joined(separator: ","))}"
    }

    /// The longest that a label's value becomes, in characters. Names of cgroups come from whoever
    /// may make some, and each scrape is kept for weeks.
    static let longestLabel = 200

    /// What both formats want escaped; other characters that are unfit to be shown become "?".
    static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars.prefix(longestLabel) {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar.isUnfitToBeShown ? "?" : scalar)
            }
        }
        return text
    }
}

extension MetricFamily.Value: Comparable, CustomStringConvertible {
    private var real: Double {
        switch self {
        case .integer(let value): Double(value)
        case .real(let value): value
        }
    }

    static func + (a: Self, b: Self) -> Self {
        if case .integer(let a) = a, case .integer(let b) = b { return .integer(a &+ b) }
        return .real(a.real + b.real)
    }

    package static func < (a: Self, b: Self) -> Bool { a.real < b.real }

    package var description: String {
        switch self {
        case .integer(let value): "\(value)"
        case .real(let value): "\(value)"
        }
    }
}

/// A text format that Prometheus scrapes.
package enum ExpositionFormat: Sendable {
    /// https://prometheus.io/docs/specs/om/open_metrics_spec/
    case openMetrics
    /// The format before it, which promtool(1) and node_exporter's textfile collector read.
    case prometheusText

    package var contentType: String {
        switch self {
        case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
        case .prometheusText: "text/plain; version=0.0.4; charset=utf-8"
        }
    }

    /// The one that a client asks for by its Accept header: OpenMetrics where it is named.
    package init(accepting header: String) {
        self = header.contains("application/openmetrics-text") ? .openMetrics : .prometheusText
    }

    package func render(_ families: [MetricFamily]) -> String {
        var text = ""
        for family in families where !family.samples.isEmpty {
            let suffix =
                switch family.kind {
                case .counter: "_total"
                case .info: "_info"
                case .gauge: ""
                }
            // OpenMetrics names the family, the older format the samples.
            let name = self == .openMetrics ? family.name : family.name + suffix
            let type =
                self == .prometheusText && family.kind == .info ? "gauge" : family.kind.rawValue
            text += "# HELP \(name) \(MetricFamily.escapedHelp(family.help))\n"
            text += "# TYPE \(name) \(type)\n"
            for sample in family.samples {
                text += "\(family.name)\(suffix)\(sample.labels) \(sample.value)\n"
            }
        }
        if self == .openMetrics { text += "# EOF\n" }
        return text
    }
}

extension MetricFamily {
    fileprivate static func escapedHelp(_ help: String) -> String {
        help.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n")
    }
}
