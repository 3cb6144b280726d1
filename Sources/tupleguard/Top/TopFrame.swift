// SPDX-License-Identifier: Apache-2.0
// What `top` shows, as the lines of one screen.

import Glibc
import TupleguardDiagnosis
import TupleguardKernel
import TupleguardLinux
import TupleguardMetrics
import TupleguardRecords

/// What the keys have changed.
struct TopView: Equatable {
    enum Order: String, CaseIterable {
        case used
        case filling = "time to full"
        case destination
    }

    var order = Order.used
    /// Rows that do not have this in them are left out.
    var filter = ""
    /// Whether what is typed goes into the filter.
    var isTyping = false
    var isPaused = false
    var showsHelp = false
    /// Destinations that were scrolled away.
    var offset = 0

    enum Outcome { case goOn, quit }

    mutating func press(_ key: Key) -> Outcome {
        if isTyping {
            type(key)
            return .goOn
        }
        switch key {
        case .character("q"): return .quit
        case .character("s"):
            let all = Order.allCases
            order = all[(all.firstIndex(of: order)! + 1) % all.count]
        case .character("/"):
            filter = ""
            isTyping = true
        case .escape: filter = ""
        case .character("p"), .character(" "): isPaused.toggle()
        case .character("h"), .character("?"): showsHelp.toggle()
        case .down, .character("j"): offset += 1
        case .up, .character("k"): offset = max(0, offset - 1)
        default: break
        }
        return .goOn
    }

    private mutating func type(_ key: Key) {
        switch key {
        case .character(let character): if filter.count < 60 { filter.append(character) }
        case .backspace: _ = filter.popLast()
        case .escape: (filter, isTyping) = ("", false)
        case .enter: isTyping = false
        case .up, .down: break
        }
        offset = 0
    }

    func admits(_ text: String) -> Bool {
        filter.isEmpty || text.lowercased().contains(filter.lowercased())
    }
}

/// One screen of it.
struct TopFrame {
    enum Style { case plain, title, bar, warning, critical }

    let history: TopHistory
    let view: TopView
    let columns: Int
    let rows: Int
    /// Whether the terminal shows block elements.
    let hasBlocks: Bool
    /// Whether it goes into a file, where keys are of no use, nor empty lines at the end.
    var isPrinted = false

    private typealias Line = (text: String, style: Style)

    /// At most `rows` lines of `columns` characters, with the escape sequences of their colours.
    func lines(hasColour: Bool) -> [String] {
        var lines = heading
        if view.showsHelp {
            lines += help
        } else if let sample = history.last {
            let room = max(0, rows - lines.count - 1)
            lines += body(sample, room)
        } else {
            lines.append(("looking ...", .plain))
        }
        if isPrinted {
            while lines.last?.text.isEmpty == true { lines.removeLast() }
            return lines.map { paint($0, hasColour) }
        }
        lines = Array(lines.prefix(max(0, rows - 1)))
        while lines.count < rows - 1 { lines.append(("", .plain)) }
        lines.append(footer)
        return lines.map { paint($0, hasColour) }
    }

    private func paint(_ line: Line, _ hasColour: Bool) -> String {
        var text = Terminal.fit(line.text, columns)
        if line.style == .bar { text += String(repeating: " ", count: columns - text.count) }
        guard hasColour, !text.isEmpty else { return text }
        let code =
            switch line.style {
            case .plain: ""
            case .title: "1"
            case .bar: "7"
            case .warning: "33"
            case .critical: "1;31"
            }
        return code.isEmpty ? text : "\u{1B}[\(code)m\(text)\u{1B}[0m"
    }

    // MARK: - Above: who is looked at, and how many

    private var heading: [Line] {
        let host = history.last?.host
        let time = history.last.map { $0.time.clock } ?? ""
        return [
            ("tupleguard top  \(hostName)  \(time)  \(guardState(host))", .title),
            (host?.guard == nil ? Self.withoutGuard : rateLine, .plain),
            (host.map(tableLine) ?? "", .plain),
            ("", .plain),
        ]
    }

    private static let withoutGuard = "connects are counted where a guard is attached"

    private func guardState(_ host: HostSample?) -> String {
        guard let host else { return "" }
        let agent = host.agent == nil ? "no agent" : "agent runs"
        if let `guard` = host.guard {
            return "\(amount(`guard`.cgroups.count, "cgroup")) guarded, \(agent)"
        }
        return (host.unseenGuard == nil ? "no guard" : "guard not seen (root sees it)")
            + ", \(agent)"
    }

    private var rateLine: String {
        func part(_ name: String, _ rate: TopHistory.Rate, width: Int) -> String {
            let number = rate.now.map { grouped(Int($0.rounded())) } ?? "-"
            let space = String(repeating: " ", count: max(0, 7 - number.count))
            return "\(name)\(space)\(number)/s \(sparkline(rate.values, width: width))"
        }
        // Names, numbers and spaces take 58 columns.
        let width = max(4, min(30, (columns - 58) / 3))
        return [
            part("claimed", history.claimed, width: width),
            part("refused", history.refused, width: width),
            part("discovered", history.discovered, width: width),
        ].joined(separator: "  ")
    }

    private func tableLine(_ host: HostSample) -> String {
        var parts: [String] = []
        if let `guard` = host.guard {
            let usage = Double(`guard`.claims) / Double(max(1, `guard`.tableSize))
            parts.append(
                "table [\(bar(usage, width: 10))] \(grouped(`guard`.claims)) of \(grouped(`guard`.tableSize))"
            )
        }
        parts.append("overshadowed \(grouped(host.survey.overshadowedCount))")
        if let dropped = host.guard?.total[.eventsDropped], dropped > 0 {
            parts.append("events lost \(grouped(dropped))")
        }
        if host.survey.unseenNamespaces != nil { parts.append("some namespaces not seen") }
        return parts.joined(separator: "   ")
    }

    /// The last values, the highest of them as high as a line is.
    func sparkline(_ values: [Double], width: Int) -> String {
        let levels = Array(hasBlocks ? "▁▂▃▄▅▆▇█" : "_.-=+*#@")
        let shown = values.suffix(width)
        let top = shown.max() ?? 0
        let text = shown.map { value in
            top > 0 ? levels[Int((value / top * Double(levels.count - 1)).rounded())] : levels[0]
        }
        return String(repeating: " ", count: width - shown.count) + String(text)
    }

    // MARK: - Below: destinations, programs, conflicts

    private func body(_ sample: TopSample, _ room: Int) -> [Line] {
        let destinations = destinationLines()
        let owners = limitLines(sample) + ownerLines(sample)
        let conflicts = conflictLines(sample)
        // Each has a third; what one leaves, the destinations get, who are why one looks.
        let share = room / 3
        let ownerRoom = min(owners.count, share)
        let conflictRoom = min(conflicts.count, share)
        let destinationRoom = room - ownerRoom - conflictRoom
        var lines = [destinations[0]]
        let offset = min(view.offset, max(0, destinations.count - destinationRoom))
        lines += destinations.dropFirst(1 + offset).prefix(max(0, destinationRoom - 1))
        return lines + owners.prefix(ownerRoom) + conflicts.prefix(conflictRoom)
    }

    private func destinationLines() -> [Line] {
        var table = Table(columns: [
            .init(title: ""), .init(title: "FROM", isFlexible: true),
            .init(title: "TO, by \(view.order.rawValue)", isFlexible: true), .init(title: "PORTS"),
            .init(title: "USED", alignment: .right), .init(title: "LEFT", alignment: .right),
            .init(title: "RATE", alignment: .right), .init(title: "FULL"),
        ])
        var styles = [Style.title]
        for pressure in sorted(history.pressures) {
            let filling = pressure.filling
            let row = [
                pressure.name.lowercased(), pressure.source, pressure.remote.description,
                "[\(bar(filling.usage, width: 10))]", grouped(filling.used), grouped(filling.left),
                rateText(filling.rate) ?? "", filling.secondsUntilFull.map(timeUntil) ?? "",
            ]
            guard view.admits(row.joined(separator: " ")) else { continue }
            table.rows.append(row)
            styles.append(style(filling.severity))
        }
        return Array(zip(table.lines(width: columns), styles)).map { ($0, $1) } + [("", .plain)]
    }

    private func style(_ severity: Severity?) -> Style {
        switch severity {
        case .critical: .critical
        case .warning: .warning
        default: .plain
        }
    }

    /// Cgroups with ports of their own, or a budget of connections.
    private func limitLines(_ sample: TopSample) -> [Line] {
        guard let `guard` = sample.host.guard else { return [] }
        var table = Table(columns: [
            .init(title: "OWN PORTS"), .init(title: "TCP", alignment: .right),
            .init(title: "UDP", alignment: .right),
            .init(title: "CONNECTIONS", alignment: .right),
            .init(title: "CGROUP", isFlexible: true),
        ])
        var styles = [Style.title]
        for (counted, budget) in zip(`guard`.cgroups, `guard`.connections) {
            let use = sample.host.survey.ownPortsUse(counted.attachment.policy)
            if use == nil && budget == nil { continue }
            let row = [
                use.map { "\($0.range.lowerBound)-\($0.range.upperBound)" } ?? "any",
                use.map { grouped($0.tcp.used) } ?? "", use.map { grouped($0.udp.used) } ?? "",
                budget?.description ?? "any",
                ascii(placeName(ofCgroup: counted.attachment.path ?? "(gone)")),
            ]
            guard view.admits(row.joined(separator: " ")) else { continue }
            table.rows.append(row)
            let spent = budget.map { Filling(used: $0.used, possible: $0.limit) }
            styles.append(
                style([use?.tcp, use?.udp, spent].compactMap { $0?.severity }.max()))
        }
        if table.rows.isEmpty { return [] }
        return Array(zip(table.lines(width: columns), styles)).map { ($0, $1) } + [("", .plain)]
    }

    private func sorted(_ pressures: [DestinationPressure]) -> [DestinationPressure] {
        pressures.sorted { a, b in
            switch view.order {
            case .used: a.filling.used > b.filling.used
            case .filling:
                (a.filling.secondsUntilFull ?? .infinity, b.filling.usage)
                    < (b.filling.secondsUntilFull ?? .infinity, a.filling.usage)
            case .destination: a.remote.description < b.remote.description
            }
        }
    }

    private func ownerLines(_ sample: TopSample) -> [Line] {
        let owners = (sample.host.guard?.owners ?? []).filter { view.admits($0.description) }
        guard !owners.isEmpty else { return [] }
        var table = Table(columns: [
            .init(title: "CLAIMS", alignment: .right), .init(title: "PROGRAM"),
            .init(title: "PID", alignment: .right), .init(title: "UID", alignment: .right),
            .init(title: "CGROUP", isFlexible: true),
        ])
        table.rows = owners.map { owner in
            [
                grouped(owner.claims), owner.pid == 0 ? "(from before)" : owner.command,
                owner.pid == 0 ? "" : "\(owner.pid)", owner.uid.map { "\($0)" } ?? "",
                ascii(owner.cgroup.map(placeName) ?? ""),
            ]
        }
        return styled(table) + [("", .plain)]
    }

    private func conflictLines(_ sample: TopSample) -> [Line] {
        let conflicts = sample.conflicts.filter { view.admits(ascii($0.summary)) }
        guard !conflicts.isEmpty else { return [] }
        var table = Table(columns: [
            .init(title: "LAST"), .init(title: "TIMES", alignment: .right),
            .init(title: "CONFLICT", isFlexible: true),
        ])
        table.rows = conflicts.map {
            [String($0.time.clock.suffix(8)), grouped($0.count), ascii($0.summary)]
        }
        return styled(table)
    }

    private func styled(_ table: Table) -> [Line] {
        table.lines(width: columns).enumerated().map { ($1, $0 == 0 ? .title : .plain) }
    }

    /// Names of others, in characters that are one column wide everywhere.
    private func ascii(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.isASCII ? $0 : "?" }))
    }

    // MARK: - Keys

    private var help: [Line] {
        [
            (
                "Destinations are those with most ports in use. FULL says when connect() will fail with",
                .plain
            ),
            (
                "\"Cannot assign requested address\", if it goes on as in the last ten seconds.",
                .plain
            ),
            ("", .plain),
            ("q        quit", .plain),
            ("s        sort destinations by ports used, by time to full, or by name", .plain),
            (
                "/        show only what has this text in it: type, then Enter; Esc shows all",
                .plain
            ),
            ("p space  pause: the screen stands still", .plain),
            ("j k      scroll the destinations, as the arrows do", .plain),
            ("h ?      this help", .plain),
        ]
    }

    private var footer: Line {
        if view.isTyping { return ("filter: \(view.filter)_", .bar) }
        var text = "q quit  s sort  / filter  p pause  h help"
        if !view.filter.isEmpty { text += "   filter: \(view.filter)" }
        if view.isPaused { text += "   PAUSED" }
        return (text, .bar)
    }
}
