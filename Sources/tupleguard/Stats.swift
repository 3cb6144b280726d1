// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgent
import TupleguardDiagnosis
import TupleguardKernel
import TupleguardLinux

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

    @OptionGroup(title: "Places") var places: Places

    private struct Report: Encodable {
        struct OfCgroup: Encodable {
            let cgroup: String?
            let cgroupId: UInt64
            let counters: [String: UInt64]
        }

        let time: String
        let total: [String: UInt64]
        let cgroups: [OfCgroup]
        let exhausted: [Exhausted]
        /// What programs reported to the agent; nil when none runs.
        let userspace: UserspaceTotals?
        /// What an agent without a guard found by looking.
        let scan: ScanTotals?
    }

    private struct ScanTotals: Encodable {
        let scans: UInt64
        let found: UInt64
        let present: Int

        init(_ summary: ScanSummary) {
            scans = summary.scans
            found = summary.found
            present = summary.present
        }
    }

    /// A destination for which no local port was left.
    private struct Exhausted: Encodable {
        let destination: String
        let networkNamespace: UInt32
        let count: UInt64
        let lastTime: String

        init(_ conflict: Conflict) {
            destination = conflict.last.tuple.remote.description
            networkNamespace = conflict.last.networkNamespace
            count = conflict.count
            lastTime = timestamp(conflict.last.time)
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
            let summary = places.userspaceSummary()
            let userspace = summary?.totals
            let scan = summary?.scan.map(ScanTotals.init)
            let (kept, exhausted) = try places.unlessAgentAnswers(
                userspace != nil, else: ([], [])
            ) { (try read(), try readExhausted()) }
            let total = kept.reduce(Counters()) { $0 + $1.counters }
            if json {
                print(encodeJSON(report(total, kept, exhausted, userspace, scan)))
            } else {
                if watch != nil { Terminal.clear() }
                if !kept.isEmpty || userspace == nil { show(total, kept, before) }
                show(exhausted)
                if let userspace { show(userspace) }
                if let scan { show(scan) }
            }
            guard let watch else { return }
            fflush(nil)
            before = total
            sleep(UInt32(watch))
        }
    }

    private func read() throws -> [(attachment: Attachment, counters: Counters)] {
        let state = places.guardState
        return try state.attachments().map { ($0, try state.counters(of: $0.id)) }
    }

    private func readExhausted() throws -> [Conflict] {
        try places.guardState.conflicts().filter { $0.last.reason == .exhausted }
    }

    private func report(
        _ total: Counters, _ kept: [(attachment: Attachment, counters: Counters)],
        _ exhausted: [Conflict], _ userspace: UserspaceTotals?, _ scan: ScanTotals?
    ) -> Report {
        return Report(
            time: timestamp(KernelClock.realTime),
            total: total.byName,
            cgroups: kept.map {
                .init(
                    cgroup: $0.attachment.path, cgroupId: $0.attachment.id,
                    counters: $0.counters.byName)
            },
            exhausted: exhausted.map(Exhausted.init), userspace: userspace, scan: scan)
    }

    private func show(_ exhausted: [Conflict]) {
        let most = 10
        guard !exhausted.isEmpty else { return }
        print("")
        var table = Table(columns: [
            .init(title: "NO PORT LEFT FOR", isFlexible: true),
            .init(title: "TIMES", alignment: .right), .init(title: "LAST"),
        ])
        for conflict in exhausted.prefix(most) {
            table.rows.append([
                conflict.last.tuple.remote.description, "\(conflict.count)",
                clock(conflict.last.time),
            ])
        }
        table.print()
        if exhausted.count > most {
            print(
                "and \(amount(exhausted.count - most, "destination")) more: see `tupleguard conflicts`"
            )
        }
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
            var row = [counter.rawValue, "\(total[counter])"]
            if let before, let watch {
                row.append("\((total[counter] &- before[counter]) / UInt64(watch))")
            }
            table.rows.append(row + [counter.meaning])
        }
        table.print()
        guard kept.count > 1 else { return }
        for (attachment, counters) in kept {
            print("\n\(Terminal.bold(attachment.path ?? "(gone: cgroup \(attachment.id))"))")
            for counter in Counter.allCases where counters[counter] > 0 {
                print("  \(counter.rawValue)  \(counters[counter])")
            }
        }
    }

    private func show(_ scan: ScanTotals) {
        print("")
        var table = Table(columns: [
            .init(title: "SCAN"), .init(title: "TOTAL", alignment: .right),
            .init(title: "WHAT THE AGENT FOUND BY LOOKING", isFlexible: true),
        ])
        table.rows = [
            ["scans", "\(scan.scans)", "how often it looked"],
            ["found", "\(scan.found)", "tuples that several sockets were connected with"],
            ["present", "\(scan.present)", "those that are so still"],
        ]
        table.print()
    }

    private func show(_ userspace: UserspaceTotals) {
        print("")
        var table = Table(columns: [
            .init(title: "USERSPACE"), .init(title: "TOTAL", alignment: .right),
            .init(title: "WHAT PROGRAMS REPORTED TO THE AGENT", isFlexible: true),
        ])
        for (name, value, meaning) in [
            ("conflict", userspace.conflict, "a tuple that a program asked for was taken"),
            ("lost_race", userspace.lostRace, "a tuple was taken while a program was about to"),
            ("exhausted", userspace.exhausted, "no local port was free for a destination"),
            ("reports", userspace.reports, "reports that were heard; one may stand for many"),
            ("limited", userspace.limited, "reports that were dropped: too many at once"),
            ("invalid", userspace.invalid, "datagrams that were no reports"),
        ] {
            table.rows.append([name, "\(value)", meaning])
        }
        table.print()
    }
}
