// SPDX-License-Identifier: Apache-2.0
// The lab's report for people: text that fits 80 columns or so, and Markdown.

import TupleguardLab
import TupleguardLinux
import TupleguardPictures

struct LabText {
    private let report: LabReport

    init(_ report: LabReport) {
        self.report = report
    }

    // MARK: - Text

    var text: String {
        [
            heading, techniquesAsText, observationsAsText, retriesAsText,
            fills.map { $0.lines(width: nil) } ?? [], costs.map { $0.lines(width: nil) } ?? [],
            leftOutAsText,
        ].filter { !$0.isEmpty }.map { $0.joined(separator: "\n") }.joined(separator: "\n\n")
    }

    private var heading: [String] {
        let setting = report.setting
        var lines = [
            "Linux \(report.kernel), \(amount(report.processors, "processor")); \(setting.portCount) ports, \(amount(setting.destinationCount, "destination"))"
        ]
        if report.isGuarded { lines.append(Self.guardedNote) }
        return lines
    }

    static let guardedNote =
        "A guard covers this process: what UDP rows show is what it lets through."

    private var techniquesAsText: [String] {
        guard !report.techniques.isEmpty else { return [] }
        var table = Table(columns: [
            .init(title: "TECHNIQUE"),
            .init(title: "TO ONE", alignment: .right),
            .init(title: "TO ALL", alignment: .right),
            .init(title: "THEN"),
            .init(title: "SHARES"),
            .init(title: "OVERSHADOWED"),
        ])
        for technique in report.techniques {
            table.rows.append([
                technique.name, technique.capacity.toOne, technique.capacity.toMany,
                technique.capacity.errno ?? "no error", technique.sharesSource ? "yes" : "no",
                technique.contention.risk,
            ])
        }
        var lines = table.lines(width: nil)
        let calls = report.techniques.map { "  \($0.calls)" }
        lines = [lines[0]] + zip(lines.dropFirst(), calls).flatMap { [$0, $1] }
        return lines + [""] + legend
    }

    private var legend: [String] {
        let setting = report.setting
        return [
            "TO ONE, TO ALL  connections that fit, to one destination and to \(grouped(setting.destinationCount)); 20/40: 40 connects",
            "                succeeded, but on 20 4-tuples, so half of the sockets are overshadowed",
            "THEN            how connect() or bind() fails when no more fit",
            "SHARES          one source address and port can serve several destinations",
            "OVERSHADOWED    sockets that lost their traffic to another one, silently, of so many",
            "                attempts, when \(report.techniques.first?.contention.threads ?? 2) threads went for one 4-tuple at a time",
        ]
    }

    private var observationsAsText: [String] {
        report.observations.flatMap { ["\($0.name): \($0.calls)", "  \($0.outcome)"] }
    }

    private var retriesAsText: [String] {
        guard !report.retries.isEmpty else { return [] }
        var table = Table(columns: [
            .init(title: "BUSY", alignment: .right), .init(title: "COMPUTED", alignment: .right),
            .init(title: "MEASURED", alignment: .right),
            .init(title: "ONE ATTEMPT", alignment: .right),
        ])
        table.rows = report.retries.map {
            ["\($0.busyPercent)%", $0.odds, $0.measured, $0.single]
        }
        return ["tcp-retry: how often all 8 attempts collide, when so many of the ports are busy"]
            + table.lines(width: nil)
    }

    // MARK: - Tables that are alike in text and in Markdown

    /// How long it took to use so much of the ports for one destination.
    private var fills: Table? {
        guard let ports = report.fills.first?.ports else { return nil }
        var table = Table(
            columns: [.init(title: "FILLING \(grouped(ports)) PORTS")]
                + ["HALF", "90%", "99%", "ALL", "PROBES"].map {
                    .init(title: $0, alignment: .right)
                })
        for fill in report.fills {
            let times = [ports / 2, ports / 10, ports / 100, 0].map { free in
                fill.points.first { $0.free == free }
                    .map { "\(lettered(Double($0.microseconds) / 1000)) ms" } ?? fill.errno ?? ""
            }
            let probes = fill.points.last?.probes.map { grouped($0) } ?? "not counted"
            table.rows.append([fill.name] + times + [probes])
        }
        return table
    }

    /// One connect() beside so many sockets.
    private var costs: Table? {
        guard let counts = report.costs.first?.points.map(\.otherSockets) else { return nil }
        var table = Table(
            columns: [.init(title: "CONNECT BESIDE")]
                + counts.map { .init(title: grouped($0), alignment: .right) })
        for cost in report.costs {
            table.rows.append(
                [cost.name]
                    + cost.points.map { "\(lettered(Double($0.nanoseconds) / 1000)) us" })
        }
        return table
    }

    private static func markdown(_ table: Table) -> [String] {
        [row(table.columns.map { $0.title.lowercased() })]
            + [row(table.columns.map { $0.alignment == .right ? "---:" : "---" })]
            + table.rows.map(row)
    }

    private var leftOutAsText: [String] {
        report.leftOut.map { "left out: \($0.name): \($0.why)" }
    }

    // MARK: - Markdown

    var markdown: String {
        [
            markdownHeading, techniquesAsMarkdown, observationsAsMarkdown, retriesAsMarkdown,
            fills.map(Self.markdown) ?? [], costs.map(Self.markdown) ?? [],
            leftOutAsText.map { "- \($0)" },
        ].filter { !$0.isEmpty }.map { $0.joined(separator: "\n") }.joined(separator: "\n\n")
    }

    private var markdownHeading: [String] {
        ["Measured by `tupleguard lab` on " + heading.joined(separator: ". ") + "."]
    }

    private static func row(_ cells: [String]) -> String {
        "| " + cells.joined(separator: " | ") + " |"
    }

    private var techniquesAsMarkdown: [String] {
        guard !report.techniques.isEmpty else { return [] }
        return [
            Self.row([
                "technique", "calls", "to one", "to \(grouped(report.setting.destinationCount))",
                "then",
                "shares a source port", "overshadowed, of attempts",
            ]), Self.row(["---", "---", "---:", "---:", "---", "---", "---:"]),
        ]
            + report.techniques.map {
                Self.row([
                    $0.name, $0.calls, $0.capacity.toOne, $0.capacity.toMany,
                    $0.capacity.failure, $0.sharesSource ? "yes" : "no", $0.contention.risk,
                ])
            }
    }

    private var observationsAsMarkdown: [String] {
        guard !report.observations.isEmpty else { return [] }
        return [Self.row(["observation", "calls", "result"]), Self.row(["---", "---", "---"])]
            + report.observations.map { Self.row([$0.name, $0.calls, $0.outcome]) }
    }

    private var retriesAsMarkdown: [String] {
        guard !report.retries.isEmpty else { return [] }
        return [
            Self.row([
                "ports busy", "all 8 attempts collide: computed", "measured",
                "one attempt collides: measured",
            ]), Self.row(["---:", "---:", "---:", "---:"]),
        ]
            + report.retries.map {
                Self.row(["\($0.busyPercent)%", $0.odds, $0.measured, $0.single])
            }
    }
}

extension CapacityReport {
    fileprivate var toOne: String { Self.count(openedToOne, tuplesToOne) }
    fileprivate var toMany: String { Self.count(openedToMany, tuplesToMany) }

    /// "EADDRINUSE (bind)"
    fileprivate var failure: String {
        guard let errno, let failedCall else { return "no error" }
        return "\(errno) (\(failedCall))"
    }

    /// "20", or "20/40" when there are more sockets than 4-tuples.
    private static func count(_ opened: Int, _ tuples: Int) -> String {
        opened == tuples ? grouped(opened) : "\(grouped(tuples))/\(grouped(opened))"
    }
}

extension ContentionReport {
    /// "12 of 4,711"
    fileprivate var risk: String { "\(grouped(overshadowed)) of \(grouped(attempts))" }
}

extension ObservationReport {
    var outcome: String { result + (errno.map { "; then \($0)" } ?? "") }
}

extension RetryReport {
    /// "1 in 256", or as a power of ten where that would be long.
    var odds: String {
        let one = 1 / computed
        guard one >= 1_000_000 else { return "1 in \(grouped(Int(one.rounded())))" }
        var exponent = 0
        var rest = one
        while rest >= 9.5 {
            rest /= 10
            exponent += 1
        }
        return "1 in \(rest < 1.05 ? "" : "\(Int(rest.rounded())) x ")10^\(exponent)"
    }

    var measured: String { "\(grouped(failed)) of \(grouped(trials))" }

    /// How often a single attempt collided, in per cent with one place.
    var single: String {
        guard attempts > 0 else { return "" }
        let perMille = (collisions * 1000 + attempts / 2) / attempts
        return "\(perMille / 10).\(perMille % 10)%"
    }
}
