// SPDX-License-Identifier: Apache-2.0
// The doctor's report as a page: what is wrong, then how full the ports are, and who has them.

import TupleguardDiagnosis
import TupleguardLinux
import TupleguardPictures
import TupleguardRecords

/// From the same numbers as the JSON.
struct DoctorPage {
    private let report: DoctorReport
    private let examination: Examination
    private let host: String
    private let time = Timestamp.now

    /// As many rows as a picture can have and still be looked at.
    private static let rowsShown = 25

    init(_ examination: Examination) {
        self.examination = examination
        report = DoctorReport(examination)
        host = "tupleguard doctor, Linux \(KernelVersion.runningRelease)"
    }

    var html: String {
        let text = DoctorText(examination)
        var introduction = ["On \(hostName) at \(time), by \(host). \(text.verdict)"]
        if let firstOut = text.firstOut { introduction.append("What runs out first: \(firstOut)") }
        var page = Page("What is wrong with this host's connections", introduction)
        page.inserted = report.findings.map(article)
        let folkRemedies = text.folkRemedies
        if !folkRemedies.isEmpty {
            page.inserted.append(
                .element(
                    "section", [:], .element("h3", [:], Markup("Do not")),
                    list(folkRemedies.map { Markup($0) })))
        }
        page.figures = [destinations, translations, holders, sockets].compactMap(\.self)
        page.notes = report.unseen.map { "Not seen: \($0)." }
        return page.html
    }

    // MARK: - Findings

    private func article(_ finding: Finding) -> Markup {
        var parts: [Markup] = [
            .element(
                "h3", [:], Markup("\(finding.severity.rawValue.uppercased()): \(finding.what)"))
        ]
        var facts = finding.notes + finding.processes.map(\.description)
        if let place = finding.networkNamespaceName { facts.insert("in \(place)", at: 0) }
        if let usage = finding.usage {
            let time = finding.secondsUntilFull.map { ", full \(timeUntil($0))" } ?? ""
            facts.append("\(percent(usage)) used\(usage < 1 ? time : "")")
        }
        if !facts.isEmpty { parts.append(list(facts.map { Markup($0) })) }
        if !finding.remedies.isEmpty {
            parts.append(.element("p", ["class": "remedies"], Markup("What to do:")))
            parts.append(list(finding.remedies.map(remedy), class: "remedies"))
        }
        return .element("article", ["class": finding.severity.rawValue], parts)
    }

    private func list(_ items: [Markup], class name: String = "") -> Markup {
        .element("ul", ["class": name], items.map { Markup.element("li", [:], $0) })
    }

    private func remedy(_ remedy: Finding.Remedy) -> Markup {
        guard let code = remedy.code else { return Markup(remedy.text) }
        let lines = code.split(separator: "\n").map { Markup(String($0)) }
        return Markup([
            Markup(remedy.text),
            .element("pre", [:], Array(lines.map { [$0] }.joined(separator: [.lineBreak]))),
        ])
    }

    // MARK: - Pictures

    private typealias Destination = DoctorReport.DestinationReport

    /// The busiest of all namespaces, with what to call each.
    private var busiest: [(name: String, Destination)] {
        let all = report.namespaces.flatMap { namespace in
            namespace.destinations.map { (namespace: namespace.name, $0) }
        }.sorted { $0.1.usage > $1.1.usage }
        return all.prefix(Self.rowsShown).map { namespace, destination in
            (
                "\(destination.protocol) \(destination.local) to \(destination.remote)"
                    + place(namespace), destination
            )
        }
    }

    private func place(_ namespace: String) -> String {
        report.namespaces.count > 1 ? " in \(namespace)" : ""
    }

    private var destinations: Figure? {
        let busiest = busiest
        guard !busiest.isEmpty else { return nil }
        let rows = busiest.map { name, destination in
            let all = Double(max(1, destination.possible))
            let waiting = min(destination.timeWait, destination.used)
            return RowChart.Row(
                name,
                [
                    (
                        .bar([
                            (0, 100 * Double(destination.used - waiting) / all),
                            (1, 100 * Double(waiting) / all),
                        ]),
                        amountText(
                            destination.used, destination.possible, destination.perSecond,
                            destination.secondsUntilFull)
                    )
                ])
        }
        return Figure(
            "destinations", title: "Destinations that fill up",
            explanation:
                "The ports to each destination that connections have, of those that they can have. TIME_WAIT is a connection that is over, whose port is kept for a minute.",
            source: host,
            RowChart(
                rows, series: ["connections", "TIME_WAIT"],
                axis: Axis("% of the ports to that destination", including: [100]),
                limits: [Limit(70, "warning"), Limit(90, "critical")]),
            DataTable(
                [
                    ("destination", false), ("used", true), ("possible", true),
                    ("TIME_WAIT", true), ("a second", true), ("full", false),
                ],
                busiest.map { name, destination in
                    [
                        name, grouped(destination.used), grouped(destination.possible),
                        grouped(destination.timeWait), rateCell(destination.perSecond),
                        destination.secondsUntilFull.map(timeUntil) ?? "",
                    ]
                }))
    }

    /// What source NAT has given out, of all namespaces, fullest first.
    private var translations: Figure? {
        let all = report.namespaces.flatMap { namespace in
            namespace.translations.map { (namespace: namespace.name, $0) }
        }.sorted { $0.1.usage > $1.1.usage }.prefix(Self.rowsShown).map { namespace, translation in
            (
                name: "\(translation.protocol) \(translation.source) to \(translation.remote)"
                    + place(namespace), translation
            )
        }
        guard !all.isEmpty else { return nil }
        return Figure(
            "translations", title: "Ports of source NAT",
            explanation:
                "The ports to each destination that source NAT has given out, of those that it chooses from. Sockets of this host from the same address have some of them too.",
            source: host,
            RowChart(
                all.map { translationRow($0, $1) },
                series: ["translated", "TIME_WAIT", "of this host"],
                axis: Axis("% of the ports to that destination", including: [100]),
                limits: [Limit(70, "warning"), Limit(90, "critical")]),
            DataTable(
                [
                    ("destination", false), ("used", true), ("possible", true),
                    ("of this host", true), ("TIME_WAIT", true), ("a second", true),
                    ("full", false),
                ],
                all.map { name, translation in
                    [
                        name, grouped(translation.used), grouped(translation.possible),
                        grouped(translation.sockets), grouped(translation.timeWait),
                        rateCell(translation.perSecond),
                        translation.secondsUntilFull.map(timeUntil) ?? "",
                    ]
                }))
    }

    private func translationRow(
        _ name: String, _ translation: DoctorReport.TranslationReport
    ) -> RowChart.Row {
        let waiting = min(translation.timeWait, translation.mappings)
        let pieces = [translation.mappings - waiting, waiting, translation.sockets]
        return RowChart.Row(
            name,
            [
                (
                    .bar(
                        pieces.enumerated().map {
                            ($0, 100 * Double($1) / Double(max(1, translation.possible)))
                        }),
                    amountText(
                        translation.used, translation.possible, translation.perSecond,
                        translation.secondsUntilFull)
                )
            ])
    }

    /// "80 of 100, +3/s, full in 7 s"
    private func amountText(
        _ used: Int, _ possible: Int, _ perSecond: Double?, _ secondsUntilFull: Double?
    ) -> String {
        "\(grouped(used)) of \(grouped(possible))"
            + (rateText(perSecond).map { ", \($0)" } ?? "")
            + (secondsUntilFull.map { ", full \(timeUntil($0))" } ?? "")
    }

    /// Empty where it was not measured.
    private func rateCell(_ perSecond: Double?) -> String {
        perSecond == nil ? "" : rateText(perSecond) ?? "0"
    }

    /// Who has the sockets to the busiest destinations.
    private var holders: Figure? {
        let all = busiest.flatMap { name, destination in
            destination.holders.map { (name: name, holder: $0) }
        }.sorted { $0.holder.sockets > $1.holder.sockets }.prefix(Self.rowsShown)
        guard !all.isEmpty else { return nil }
        return Figure(
            "holders", title: "Who holds what",
            explanation: "The processes with the most sockets to the busiest destinations.",
            source: host,
            RowChart(
                all.map { name, holder in
                    RowChart.Row(
                        "\(holder.command) (pid \(holder.pid))",
                        [
                            (
                                .bar([(2, Double(holder.sockets))]),
                                "\(grouped(holder.sockets)): \(name)"
                            )
                        ])
                }, axis: Axis("sockets", isWhole: true)),
            DataTable(
                [("process", false), ("pid", true), ("sockets", true), ("destination", false)],
                all.map { name, holder in
                    [holder.command, "\(holder.pid)", grouped(holder.sockets), name]
                }))
    }

    private var sockets: Figure? {
        let all = report.namespaces.flatMap { namespace in
            namespace.sources.map { (namespace: namespace.name, source: $0) }
        }.sorted { $0.source.sockets > $1.source.sockets }.prefix(Self.rowsShown)
        guard !all.isEmpty else { return nil }
        func name(_ namespace: String, _ source: DoctorReport.SourceReport) -> String {
            "\(source.protocol) from \(source.address)\(place(namespace))"
        }
        return Figure(
            "sockets", title: "Sockets at each address",
            explanation:
                "Sockets on ephemeral ports of each local address, and how many of them are in TIME_WAIT.",
            source: host,
            RowChart(
                all.map { namespace, source in
                    RowChart.Row(
                        name(namespace, source),
                        [
                            (
                                .bar([
                                    (0, Double(source.sockets - source.timeWait)),
                                    (1, Double(source.timeWait)),
                                ]),
                                "\(grouped(source.sockets)) on \(amount(source.ports, "port"))"
                            )
                        ])
                }, series: ["open", "TIME_WAIT"], axis: Axis("sockets", isWhole: true)),
            DataTable(
                [
                    ("address", false), ("sockets", true), ("TIME_WAIT", true), ("ports", true),
                    ("shared ports", true),
                ],
                all.map { namespace, source in
                    [
                        name(namespace, source), grouped(source.sockets),
                        grouped(source.timeWait), grouped(source.ports),
                        grouped(source.sharedPorts),
                    ]
                }))
    }
}

extension DoctorReport.TranslationReport {
    fileprivate var usage: Double { possible > 0 ? Double(used) / Double(possible) : 1 }
}

extension DoctorReport.DestinationReport {
    fileprivate var usage: Double { possible > 0 ? Double(used) / Double(possible) : 1 }
}
