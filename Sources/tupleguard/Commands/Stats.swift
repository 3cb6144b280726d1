// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords

/// `tupleguard stats`
struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show every counter, in total and for each cgroup.",
        discussion: """
            Counters are exact, also when events are dropped. They begin at 0 when a cgroup's \
            guard is attached, and go on through upgrades and changes of policy. A running agent \
            adds what programs reported to it since it started.

            EXAMPLES
              tupleguard stats
              tupleguard stats --watch 2
              tupleguard stats --json
            """)

    @Flag(help: "One JSON object.")
    var json = false

    @Option(help: ArgumentHelp("Show again every so many seconds.", valueName: "seconds"))
    var watch: Int?

    @OptionGroup(title: "Folders") var folders: FolderOptions

    private struct Report: Encodable {
        struct OfCgroup: Encodable {
            let cgroup: String?
            let cgroupId: UInt64
            let counters: [String: UInt64]
            /// Absent where connections are not counted.
            let connections: OfBudget?
        }

        /// What a cgroup has open of the connections that it may have.
        struct OfBudget: Encodable {
            let used: Int
            let limit: Int

            init(_ budget: ConnectionBudget) {
                (used, limit) = (budget.used, budget.limit)
            }
        }

        let time: Timestamp
        let total: [String: UInt64]
        let cgroups: [OfCgroup]
        let exhausted: [Exhausted]
        /// Destinations that a cgroup's budget had no connection left for.
        let overBudget: [Exhausted]
        /// What programs gave the agent notice of; nil when none runs.
        let connectx: NoticeTotals?
        /// What an agent without a guard found by looking.
        let scan: ScanTotals?
    }

    /// A destination for which nothing was left.
    private struct Exhausted: Encodable {
        let destination: String
        let transport: String
        let networkNamespace: UInt32
        let count: UInt64
        let lastTime: Timestamp

        init(_ conflict: Conflict<GuardEvent>) {
            destination = conflict.last.tuple.remote.description
            transport = conflict.last.transport.name
            networkNamespace = conflict.last.networkNamespace
            count = conflict.count
            lastTime = conflict.last.time
        }
    }

    func validate() throws {
        if let watch, !(1...3600).contains(watch) {
            throw ValidationError("--watch \(watch): choose between 1 and 3600 seconds")
        }
    }

    func run() throws {
        var before: Counters?
        while true {
            let summary = folders.askAgent(AgentSummary.read)
            let (kept, wants) = try folders.unlessAgentAnswers(
                summary != nil, else: ([], [])
            ) { (try folders.guardState.countedAttachments(), try readWants()) }
            let total = kept.reduce(Counters()) { $0 + $1.counters }
            if json {
                print(encodeJSON(report(total, kept, wants, summary)))
            } else {
                if watch != nil { Terminal.clear() }
                if !kept.isEmpty || summary == nil { show(total, kept, before) }
                show(connectionsOf: kept)
                show("NO PORT LEFT FOR", wants, .exhausted)
                show("NO CONNECTION LEFT FOR", wants, .budget)
                if let totals = summary?.totals { show(totals) }
                if let scan = summary?.scan { show(scan) }
            }
            guard let watch else { return }
            fflush(nil)
            before = total
            sleep(UInt32(watch))
        }
    }

    private func readWants() throws -> [Conflict<GuardEvent>] {
        try folders.guardState.conflicts().filter(\.last.reason.concernsDestination)
    }

    /// Nil where they are not counted, and where the guard was taken off meanwhile.
    private func connections(of attachment: Attachment) -> ConnectionBudget? {
        try? folders.guardState.connections(of: attachment)
    }

    private func report(
        _ total: Counters, _ kept: [(attachment: Attachment, counters: Counters)],
        _ wants: [Conflict<GuardEvent>], _ summary: AgentSummary?
    ) -> Report {
        func all(_ reason: Reason) -> [Exhausted] {
            wants.filter { $0.last.reason == reason }.map(Exhausted.init)
        }
        return Report(
            time: .now,
            total: total.byName,
            cgroups: kept.map {
                .init(
                    cgroup: $0.attachment.path, cgroupId: $0.attachment.id,
                    counters: $0.counters.byName,
                    connections: connections(of: $0.attachment).map(Report.OfBudget.init))
            },
            exhausted: all(.exhausted), overBudget: all(.budget), connectx: summary?.totals,
            scan: summary?.scan)
    }

    private func show(_ title: String, _ wants: [Conflict<GuardEvent>], _ reason: Reason) {
        let most = 10
        let wants = wants.filter { $0.last.reason == reason }
        guard !wants.isEmpty else { return }
        print("")
        var table = Table(columns: [
            .init(title: title, isFlexible: true),
            .init(title: "TIMES", alignment: .right), .init(title: "LAST"),
        ])
        for conflict in wants.prefix(most) {
            table.rows.append([
                conflict.last.subject, grouped(conflict.count), conflict.last.time.clock,
            ])
        }
        table.print()
        if wants.count > most {
            print(
                "and \(amount(wants.count - most, "destination")) more: see `tupleguard conflicts`"
            )
        }
    }

    private func show(connectionsOf kept: [(attachment: Attachment, counters: Counters)]) {
        var table = Table(columns: [
            .init(title: "CGROUP", isFlexible: true), .init(title: "CONNECTIONS"),
            .init(title: "REFUSED", alignment: .right),
        ])
        for (attachment, counters) in kept {
            guard let budget = connections(of: attachment) else { continue }
            table.rows.append([
                attachment.path ?? "(gone: cgroup \(attachment.id))", budget.description,
                grouped(counters[.refusedBudget]),
            ])
        }
        if table.rows.isEmpty { return }
        print("")
        table.print()
    }

    private func show(
        _ total: Counters, _ kept: [(attachment: Attachment, counters: Counters)],
        _ before: Counters?
    ) {
        var columns: [Table.Column] = [
            .init(title: "COUNTER"), .init(title: "TOTAL", alignment: .right),
        ]
        if before != nil { columns.append(.init(title: "PER SECOND", alignment: .right)) }
        columns.append(.init(title: "WHAT IT COUNTS", isFlexible: true))
        var table = Table(columns: columns)
        for counter in Counter.allCases {
            if counter.kind == .histogram && total[counter] == 0 { continue }
            var row = [counter.rawValue, grouped(total[counter])]
            if let before, let watch {
                row.append(grouped((total[counter] &- before[counter]) / UInt64(watch)))
            }
            table.rows.append(row + [counter.meaning])
        }
        table.print()
        guard kept.count > 1 else { return }
        for (attachment, counters) in kept {
            let name = attachment.path.map { printable($0) } ?? "(gone: cgroup \(attachment.id))"
            print("\n\(Terminal.bold(name))")
            for counter in Counter.allCases where counters[counter] > 0 {
                print("  \(counter.rawValue)  \(grouped(counters[counter]))")
            }
        }
    }

    private func show(_ scan: ScanTotals) {
        show(
            "SCAN", "WHAT THE AGENT FOUND BY LOOKING",
            [
                ("scans", scan.scans, "how often it looked"),
                ("found", scan.found, "tuples that several sockets were connected with"),
                ("present", UInt64(scan.present), "those that are so still"),
            ])
    }

    private func show(_ totals: NoticeTotals) {
        show(
            "CONNECTX", "WHAT PROGRAMS REPORTED TO THE AGENT",
            [
                ("conflict", totals.conflict, "a tuple that a program asked for was taken"),
                ("lost_race", totals.lostRace, "a tuple was taken while a program was about to"),
                ("exhausted", totals.exhausted, "no local port was free for a destination"),
                ("notices", totals.notices, "notices that were heard; one may stand for many"),
                ("limited", totals.limited, "notices that were dropped: too many at once"),
                ("invalid", totals.invalid, "datagrams that were no notices"),
            ])
    }

    private func show(_ title: String, _ meaning: String, _ rows: [(String, UInt64, String)]) {
        print("")
        var table = Table(columns: [
            .init(title: title), .init(title: "TOTAL", alignment: .right),
            .init(title: meaning, isFlexible: true),
        ])
        table.rows = rows.map { [$0.0, grouped($0.1), $0.2] }
        table.print()
    }
}
