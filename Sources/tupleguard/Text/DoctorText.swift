// SPDX-License-Identifier: Apache-2.0
// The doctor's words on a terminal of 80 columns, for somebody who was asleep a minute ago.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

struct DoctorText {
    let examination: Examination

    private static let width = 80
    private static let margin = 10
    private static let destinationsShown = 5
    private static let sourcesShown = 3
    private static let namespacesShown = 8
    private static let worthAWord = 0.01

    init(_ examination: Examination) {
        self.examination = examination
    }

    var lines: [String] {
        var lines: [String] = []
        for finding in examination.findings { lines += self.lines(of: finding) + [""] }
        let folkRemedies = folkRemedies
        for (index, advice) in folkRemedies.enumerated() {
            lines += index == 0 ? Self.wrap("do not    ", advice) : indented(advice)
        }
        if !folkRemedies.isEmpty { lines.append("") }
        let use = portUse
        if !use.isEmpty { lines += use + [""] }
        for missing in examination.unseen {
            lines += Self.wrap("not seen  ", "\(missing).")
        }
        if let firstOut { lines += Self.wrap("first out ", firstOut) }
        lines.append(Terminal.bold(verdict))
        return lines
    }

    // MARK: - A finding

    private func lines(of finding: Finding) -> [String] {
        var lines = title(finding)
        if let place = finding.networkNamespaceName, place != NetworkNamespace.ownName {
            lines += indented("in \(place)")
        }
        if let usage = finding.usage {
            var text = "[\(bar(usage))] \(percent(usage))"
            if let seconds = finding.secondsUntilFull, usage < 1 {
                text += ", full \(timeUntil(seconds))"
            }
            lines += indented(text)
        }
        for note in finding.notes { lines += indented(note) }
        for process in finding.processes { lines += indented(process.description) }
        for remedy in finding.remedies {
            lines += Self.wrap("        > ", remedy.text)
            for line in remedy.code?.split(separator: "\n") ?? [] {
                lines.append("            \(line)")
            }
        }
        return lines
    }

    private func title(_ finding: Finding) -> [String] {
        let label = finding.severity.rawValue.uppercased()
        let padded = label + String(repeating: " ", count: Self.margin - label.count)
        var lines = Self.wrap(padded, finding.what)
        let rest = lines[0].dropFirst(label.count)
        lines[0] =
            (finding.severity == .critical ? Terminal.red(label) : Terminal.bold(label)) + rest
        return lines
    }

    /// One figure for the whole host, also where all is fine; nil where hardly anything is in use.
    var firstOut: String? {
        guard let first = examination.firstToRunOut, first.filling.usage >= Self.worthAWord else {
            return nil
        }
        var text = "\(first.what): \(percent(first.filling.usage))"
        if let seconds = first.secondsUntilFull {
            text += first.filling.isFull ? ", full" : ", full \(timeUntil(seconds))"
        }
        if !first.namespace.isOwn { text += ", in \(first.namespace.name)" }
        return text + "."
    }

    private func indented(_ text: String) -> [String] {
        Self.wrap(String(repeating: " ", count: Self.margin), text)
    }

    /// Breaks at spaces; what follows the first line stands under its text.
    static func wrap(_ head: String, _ text: String) -> [String] {
        var lines: [String] = []
        var line = head
        let indent = String(repeating: " ", count: head.count)
        var isEmpty = true
        for word in text.split(separator: " ") {
            if !isEmpty && line.count + 1 + word.count > width {
                lines.append(line)
                line = indent
                isEmpty = true
            }
            line += isEmpty ? word : " \(word)"
            isEmpty = false
        }
        return lines + [line]
    }

    // MARK: - What people do and should not

    private var concernsPorts: Bool {
        examination.findings.contains {
            $0.severity > .info && $0.protocolName == "tcp"
                && [.destinationFilling, .timeWait].contains($0.kind)
        }
    }

    /// Each goes on from "do not"; none where nothing is wrong that they are tried against.
    var folkRemedies: [String] {
        guard concernsPorts else { return [] }
        return [
            "set tcp_tw_recycle: it broke clients behind NAT and is gone since Linux 4.12.",
            "kill TIME_WAIT (ss -K, a small tcp_max_tw_buckets): it keeps late segments out of new connections. tcp_tw_reuse is the safe way.",
            "lower tcp_fin_timeout: that is FIN_WAIT_2; TIME_WAIT is always 60 seconds.",
        ]
    }

    // MARK: - Ports in use

    private var portUse: [String] {
        let all = examination.evidence.survey.namespaces.filter {
            !$0.tcp.sources.isEmpty || !$0.udp.sources.isEmpty
                || $0.translation?.destinations.isEmpty == false
        }
        var lines: [String] = []
        for survey in all.prefix(Self.namespacesShown) {
            lines.append(
                Terminal.bold(
                    Terminal.fit(
                        "Ephemeral ports in \(survey.namespace.name): \(grouped(survey.settings.possible)) to each destination",
                        Self.width)))
            lines += table(survey).lines(width: Self.width)
        }
        if all.count > Self.namespacesShown {
            lines.append(
                "and \(amount(all.count - Self.namespacesShown, "more namespace")): see --json")
        }
        return lines
    }

    private func table(_ survey: NamespaceSurvey) -> Table {
        var table = Table(columns: [
            .init(title: ""), .init(title: "FROM", isFlexible: true),
            .init(title: "TO", isFlexible: true), .init(title: ""),
            .init(title: "USED", alignment: .right), .init(title: "RATE", alignment: .right),
            .init(title: "FULL"),
        ])
        for (name, transport) in [("tcp", survey.tcp), ("udp", survey.udp)] {
            for source in transport.sources.prefix(Self.sourcesShown) {
                let filling = Filling(used: source.ports, possible: survey.settings.possible)
                var cells = row(name, address(source.address), "(all)", filling)
                // TCP ports are shared among destinations: all in use is not full.
                if name == "tcp" { cells[cells.count - 1] = "" }
                table.rows.append(cells)
            }
        }
        for pressure in examination.evidence.translationPressures(survey)
            .prefix(Self.destinationsShown)
        {
            table.rows.append(
                row(
                    "snat \(pressure.destination.transport.name)", pressure.source.description,
                    pressure.remote.description, pressure.filling))
        }
        let busiest = examination.evidence.pressures(survey).prefix(Self.destinationsShown)
        for pressure in busiest {
            table.rows.append(
                row(
                    pressure.name.lowercased(), pressure.source, pressure.remote.description,
                    pressure.filling))
        }
        return table
    }

    private func row(_ name: String, _ source: String, _ remote: String, _ filling: Filling)
        -> [String]
    {
        [
            name, source, remote, "[\(bar(filling.usage, width: 10))]", grouped(filling.used),
            rateText(filling.rate) ?? "", filling.secondsUntilFull.map(timeUntil) ?? "",
        ]
    }

    // MARK: - The last line

    var verdict: String {
        let counts = Severity.allCases.reversed().compactMap { severity in
            let count = examination.findings.count { $0.severity == severity }
            let noun =
                severity == .warning
                ? amount(count, "warning") : "\(grouped(count)) \(severity.rawValue)"
            return count > 0 ? noun : nil
        }
        let namespaces = examination.evidence.survey.namespaces.count
        let place = amount(namespaces, "network namespace")
        if counts.isEmpty { return "Nothing is wrong in \(place)." }
        return "\(counts.joined(separator: ", ")) in \(place)."
    }
}
