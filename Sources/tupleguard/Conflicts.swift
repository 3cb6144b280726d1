// SPDX-License-Identifier: Apache-2.0
import Agent
import ArgumentParser
import Glibc
import Guard

/// `tupleguard conflicts`
struct Conflicts: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which tuples were refused, to whom, and who holds them.",
        discussion: """
            Newest first, from what the guard itself remembers (the latest 4,096 tuples or so); \
            no agent is needed. With --follow conflicts are shown as they happen, which needs a \
            running agent.

            EXAMPLES
              tupleguard conflicts
              tupleguard conflicts --limit 5 --json
              tupleguard conflicts --follow
            """)

    @Flag(help: "One JSON object, or with --follow one for each line.")
    var json = false

    @Flag(help: "Show conflicts as they happen, until interrupted.")
    var follow = false

    @Option(help: "Show at most so many tuples.")
    var limit: Int?

    @OptionGroup(title: "Places") var places: Places

    private struct Report: Encodable {
        let conflicts: [ConflictReport]
    }

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit \(limit): at least 1") }
        if follow && limit != nil { throw ValidationError("--follow has no --limit") }
    }

    func run() throws {
        try Platform.requireCapabilities()
        if follow { return try followEvents() }
        let names = CgroupNames()
        let conflicts = Array(try places.guardState.conflicts().prefix(limit ?? .max))
        if json {
            print(
                encodeJSON(Report(conflicts: conflicts.map { ConflictReport($0, cgroups: names) })))
        } else if conflicts.isEmpty {
            print("no conflicts")
        } else {
            for conflict in conflicts { Self.show(conflict, names) }
        }
    }

    /// A block of lines that any terminal has room for.
    static func show(
        _ conflict: Conflict, _ names: CgroupNames, to show: (String) -> Void = { print($0) }
    ) {
        let last = ConflictEventReport(conflict.last, cgroups: names)
        let times =
            conflict.count == 1 ? "once" : "\(conflict.count) times, first \(clock(conflict.first))"
        let lines = [
            "\(Terminal.bold(conflict.last.tuple.description))",
            "  \(label(last.action))\(times)\(conflict.count == 1 ? "," : ", last") \(clock(conflict.last.time))",
            "  \(label("claimant"))\(last.claimant?.description ?? "not known")",
            "  \(label("holder"))\(last.holder?.description ?? "not known")",
            "  \(label("because"))\(conflict.last.reason.explanation)",
        ]
        let width = Terminal.width ?? .max
        for (index, line) in lines.enumerated() {
            show(index == 0 ? line : Terminal.fit(line, width))
        }
    }

    private static func label(_ text: String) -> String {
        text + String(repeating: " ", count: max(1, 10 - text.count))
    }

    private func followEvents() throws {
        var stream = try EventStream.open(RunFolder(path: places.runFolder))
        while let line = stream.nextLine() {
            if json {
                print(line)
            } else if let report = ConflictEventReport(json: line) {
                print("\(report.time) \(report.line)")
            }
            fflush(nil)  // also into a pipe, line by line
        }
        throw GuardError.failed(
            what: "follow any longer", errno: .init(EPIPE), detail: "the agent has stopped")
    }
}
