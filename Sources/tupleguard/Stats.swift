// SPDX-License-Identifier: Apache-2.0
import Agent
import ArgumentParser
import Glibc
import Guard

/// `tupleguard stats`
struct Stats: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show every counter, in total and for each cgroup.",
        discussion: """
            Counters are exact, also when events are dropped. They begin at 0 when a cgroup's \
            guard is attached, and go on through upgrades and changes of policy.

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
    }

    func validate() throws {
        if let watch, !(1...3600).contains(watch) {
            throw ValidationError("--watch \(watch): choose between 1 and 3600 seconds")
        }
    }

    func run() throws {
        try Platform.requireCapabilities()
        var before: Counters?
        while true {
            let kept = try read()
            let total = kept.reduce(Counters()) { $0 + $1.counters }
            if json {
                print(encodeJSON(report(total, kept)))
            } else {
                if watch != nil { Terminal.clear() }
                show(total, kept, before)
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

    private func named(_ counters: Counters) -> [String: UInt64] {
        Dictionary(
            uniqueKeysWithValues: zip(Counters.descriptions.map(\.name), counters.values))
    }

    private func report(
        _ total: Counters, _ kept: [(attachment: Attachment, counters: Counters)]
    ) -> Report {
        return Report(
            time: timestamp(Platform.now(CLOCK_REALTIME)),
            total: named(total),
            cgroups: kept.map {
                .init(
                    cgroup: $0.attachment.path, cgroupId: $0.attachment.id,
                    counters: named($0.counters))
            })
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
        for (index, description) in Counters.descriptions.enumerated() {
            var row = [description.name, "\(total.values[index])"]
            if let before, let watch {
                row.append("\((total.values[index] &- before.values[index]) / UInt64(watch))")
            }
            table.rows.append(row + [description.meaning])
        }
        table.print()
        guard kept.count > 1 else { return }
        for (attachment, counters) in kept {
            print("\n\(Terminal.bold(attachment.path ?? "(gone: cgroup \(attachment.id))"))")
            for (description, value) in zip(Counters.descriptions, counters.values) where value > 0
            {
                print("  \(description.name)  \(value)")
            }
        }
    }
}
