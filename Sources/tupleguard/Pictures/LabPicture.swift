// SPDX-License-Identifier: Apache-2.0
// The lab's report as pictures: the same numbers as its text and its JSON.

import ArgumentParser
import TupleguardLab
import TupleguardLinux
import TupleguardPictures
import TupleguardRecords

/// One picture of the lab, by the name that `--svg` takes.
enum LabPicture: String, CaseIterable, ExpressibleByArgument {
    case capacity
    case overshadowed
    case fillTime = "fill-time"
    case fillProbes = "fill-probes"
    case cost
    case retries

    /// The groups of rows whose numbers it shows.
    var groups: [String] {
        switch self {
        case .capacity: ["tcp", "udp"]
        case .overshadowed: ["udp"]
        case .fillTime, .fillProbes: ["fill"]
        case .cost: ["cost"]
        case .retries: ["retry"]
        }
    }

    /// Nil when nothing of it was measured.
    func figure(_ report: LabReport) -> Figure? {
        switch self {
        case .capacity: report.capacityFigure
        case .overshadowed: report.overshadowedFigure
        case .fillTime: report.fillTimeFigure
        case .fillProbes: report.fillProbesFigure
        case .cost: report.costFigure
        case .retries: report.retriesFigure
        }
    }
}

extension LabReport {
    /// All pictures on one page.
    var page: Page {
        var page = Page(
            "Every known technique for outgoing connections",
            ["Measured by \(machine). The page was made at \(Timestamp.now)."]
                + (isGuarded ? [LabText.guardedNote] : []))
        page.figures = LabPicture.allCases.compactMap { $0.figure(self) }
        page.notes =
            observations.map { "\($0.name) (\($0.calls)): \($0.outcome)." }
            + leftOut.map { "Left out: \($0.name): \($0.why)." }
        return page
    }

    private var machine: String {
        "tupleguard lab \(version), Linux \(kernel), \(amount(processors, "processor"))"
    }

    // MARK: - How many fit

    fileprivate var capacityFigure: Figure? {
        guard !techniques.isEmpty else { return nil }
        let (ports, destinations) = (setting.portCount, setting.destinationCount)
        let rows = techniques.map { technique in
            let capacity = technique.capacity
            return RowChart.Row(
                technique.name,
                [
                    bar(capacity.openedToOne, capacity.tuplesToOne, "to one"),
                    bar(capacity.openedToMany, capacity.tuplesToMany, "to \(destinations)"),
                ])
        }
        let chart = RowChart(
            rows, series: ["connections", "overshadowed: connected, and silent"],
            axis: Axis(
                "connections that fit (upper bar: to one destination, lower: to \(destinations))",
                isWhole: true),
            limits: [
                Limit(Double(ports), "port range: \(ports)"),
                Limit(
                    Double(ports * destinations),
                    "for \(destinations) destinations: \(ports * destinations)"),
            ])
        return Figure(
            "capacity", title: "How many connections fit",
            explanation:
                "With a range of \(ports) ports. A technique that shares ports reaches the right line; one that shares them on trust goes beyond it, with sockets that lose their traffic.",
            source: machine,
            chart,
            DataTable(
                [
                    ("technique", false), ("calls", false), ("to one", true),
                    ("on 4-tuples", true), ("to \(destinations)", true), ("on 4-tuples", true),
                    ("then", false),
                ],
                techniques.map {
                    [
                        $0.name, $0.calls, grouped($0.capacity.openedToOne),
                        grouped($0.capacity.tuplesToOne), grouped($0.capacity.openedToMany),
                        grouped($0.capacity.tuplesToMany), $0.capacity.errno ?? "no error",
                    ]
                }))
    }

    private func bar(_ opened: Int, _ tuples: Int, _ destinations: String) -> (
        mark: RowChart.Mark, label: String
    ) {
        let lost = opened - tuples
        let silent = lost == 0 ? "" : ", and \(grouped(lost)) silent"
        return (
            .bar([(0, Double(tuples)), (1, Double(lost))]),
            "\(grouped(tuples)) \(destinations)\(silent)"
        )
    }

    // MARK: - Overshadowed

    fileprivate var overshadowedFigure: Figure? {
        let techniques = techniques.filter { $0.contention.lostRounds.trials > 0 }
        guard !techniques.isEmpty else { return nil }
        let rows = techniques.map { technique in
            let lost = technique.contention.lostRounds
            let range = (lost.interval.lowerBound * 100)...(lost.interval.upperBound * 100)
            let mark = RowChart.Mark.interval(
                range, at: lost.count > 0 ? lost.share.map { $0 * 100 } : nil)
            let label =
                lost.count > 0
                ? "\(perCent(lost.share ?? 0)) of \(grouped(lost.trials))"
                : "none of \(grouped(lost.trials)): below \(perCent(lost.interval.upperBound))"
            return RowChart.Row(technique.name, [(mark, label)])
        }
        return Figure(
            "overshadowed", title: "How often a socket is overshadowed",
            explanation:
                "\(techniques[0].contention.threads) threads go for one 4-tuple at the same moment, again and again: the share of these rounds that left a socket connected and silent, with its 95% confidence interval (Wilson's). A bar without a dot: it was not seen, and the bar ends where the share may still be.",
            source: machine,
            RowChart(
                rows, axis: Axis("% of rounds, logarithmic", .logarithmic, including: [0.01, 100])),
            DataTable(
                [
                    ("technique", false), ("rounds", true), ("lost", true), ("share", true),
                    ("95% from", true), ("to", true),
                ],
                techniques.map {
                    let lost = $0.contention.lostRounds
                    return [
                        $0.name, grouped(lost.trials), grouped(lost.count),
                        perCent(lost.share ?? 0), perCent(lost.interval.lowerBound),
                        perCent(lost.interval.upperBound),
                    ]
                }))
    }

    private func perCent(_ share: Double) -> String { "\(lettered(share * 100))%" }

    // MARK: - Filling up

    fileprivate var fillTimeFigure: Figure? {
        fillFigure(
            .fillTime, "What the last ports cost in time",
            Axis("time since the first connection, milliseconds")
        ) { Double($0.microseconds) / 1000 }
    }

    fileprivate var fillProbesFigure: Figure? {
        fillFigure(
            .fillProbes, "What the last ports cost in probes",
            Axis("ports looked at since the first", isWhole: true)
        ) { $0.probes.map(Double.init) }
    }

    private func fillFigure(
        _ picture: LabPicture, _ title: String, _ across: Axis,
        _ value: (FillReport.Point) -> Double?
    ) -> Figure? {
        let curves = fills.enumerated().filter { $0.element.points.contains { value($0) != nil } }
        guard let ports = fills.first?.ports, !curves.isEmpty else { return nil }
        let lines = curves.map { index, fill in
            LineChart.Line(
                fill.name, series: index,
                fill.points.compactMap { point in value(point).map { ($0, Double(point.free)) } })
        }
        return Figure(
            picture.rawValue, title: title,
            explanation:
                "Connections to one destination, one after the other, until all \(grouped(ports)) ports are used: the fewer are free, the longer a port is looked for. fill-connectx and fill-guard look in the library and in the kernel, where nobody counts.",
            source: machine,
            LineChart(
                lines, across: across, up: Axis("ports free", isWhole: true)),
            DataTable(
                [
                    ("way", false), ("calls", false), ("ports used", true), ("ms in all", true),
                    ("probes in all", true), ("ended", false),
                ],
                curves.map { _, fill in
                    let last = fill.points.last
                    return [
                        fill.name, fill.calls, grouped(fill.ports - (last?.free ?? fill.ports)),
                        lettered(Double(last?.microseconds ?? 0) / 1000),
                        last?.probes.map(grouped) ?? "not counted", fill.errno ?? "all used",
                    ]
                }))
    }

    // MARK: - The cost of many sockets

    fileprivate var costFigure: Figure? {
        guard !costs.isEmpty else { return nil }
        return Figure(
            "cost", title: "What connect() costs as sockets grow in number",
            explanation:
                "The median of one connect() to a destination that nobody on the port has, while so many other sockets share the source address and port. A look-up walks along all of them; the guard's table knows.",
            source: machine,
            LineChart(
                costs.enumerated().map { index, cost in
                    LineChart.Line(
                        cost.name, series: index,
                        cost.points.map { (Double($0.otherSockets), Double($0.nanoseconds) / 1000) }
                    )
                }, across: Axis("other sockets on the address and port, logarithmic", .logarithmic),
                up: Axis("microseconds for one connect(), logarithmic", .logarithmic)),
            DataTable(
                [
                    ("under", false), ("calls", false), ("other sockets", true),
                    ("microseconds", true),
                ],
                costs.flatMap { cost in
                    cost.points.map {
                        [
                            cost.name, cost.calls, grouped($0.otherSockets),
                            lettered(Double($0.nanoseconds) / 1000),
                        ]
                    }
                }))
    }

    // MARK: - Retries

    fileprivate var retriesFigure: Figure? {
        guard !retries.isEmpty else { return nil }
        let lines = retries.enumerated().flatMap { index, retry in
            let attempts = retry.collidedThrough.indices.map { $0 + 1 }
            let measured = zip(attempts, retry.collidedThrough).map { attempt, count in
                (Double(attempt), 100 * Double(count) / Double(max(1, retry.trials)))
            }
            let computed = attempts.map { attempt in
                (
                    Double(attempt),
                    100
                        * allCollide(
                            probability: Double(retry.busyPercent) / 100, attempts: attempt)
                )
            }
            return [
                LineChart.Line(
                    "\(retry.busyPercent)% of the ports busy: measured", series: index, measured),
                LineChart.Line(
                    "\(retry.busyPercent)%: computed", series: index,
                    computed.filter { $0.1 >= Self.leastShown },
                    isComputed: true),
            ]
        }
        return Figure(
            "retries", title: "How often retries do not help",
            explanation:
                "tcp-retry lets bind() choose a port before the destination is known, and tries again where that is taken: the share of \(grouped(retries[0].trials)) connections whose first attempts all collided. A line of what was measured ends where there was none.",
            source: machine,
            LineChart(
                lines, across: Axis("attempts", isWhole: true),
                up: Axis("% of connections, logarithmic", .logarithmic, including: [0.01, 100])),
            DataTable(
                [
                    ("ports busy", true), ("all 8 collide: computed", true), ("measured", true),
                    ("one collides", true),
                ],
                retries.map { ["\($0.busyPercent)%", $0.odds, $0.measured, $0.single] }))
    }

    /// Per cent: what is rarer was not tried often enough to be compared with.
    private static let leastShown = 0.001
}
