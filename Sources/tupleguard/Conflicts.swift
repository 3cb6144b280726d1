// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgent
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// `tupleguard conflicts`
struct Conflicts: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which tuples were refused, to whom, and who holds them.",
        discussion: """
            Newest first, from what the guard itself remembers (the latest 4,096 tuples or so); \
            no agent is needed. Where one runs, what programs reported to it is shown too, marked \
            "userspace": it is what they say, and only who they are comes from the kernel. With --follow conflicts are shown as they happen, which needs a \
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
        let conflicts: [Entry]
    }

    /// A conflict as one of the sources has it.
    private enum Entry: Encodable {
        case kernel(Conflict, CgroupNames)
        case userspace(UserspaceConflictReport)
        case scan(ScanEventReport)

        /// When it last happened: nanoseconds since 1970.
        var time: UInt64 {
            switch self {
            case .kernel(let conflict, _): conflict.last.time
            case .userspace(let report): nanoseconds(of: report.lastTime) ?? 0
            case .scan(let report): nanoseconds(of: report.time) ?? 0
            }
        }

        func encode(to encoder: any Encoder) throws {
            switch self {
            case .kernel(let conflict, let names):
                try ConflictReport(conflict, cgroups: names).encode(to: encoder)
            case .userspace(let report): try report.encode(to: encoder)
            case .scan(let report): try report.encode(to: encoder)
            }
        }

        func show() {
            switch self {
            case .kernel(let conflict, let names): Conflicts.show(conflict, names)
            case .userspace(let report): Conflicts.show(report)
            case .scan(let report): Conflicts.show(report)
            }
        }
    }

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit \(limit): at least 1") }
        if follow && limit != nil { throw ValidationError("--follow has no --limit") }
    }

    func run() throws {
        if follow { return try followEvents() }
        let entries = Array(try read().prefix(limit ?? .max))
        if json {
            print(encodeJSON(Report(conflicts: entries)))
        } else if entries.isEmpty {
            print("no conflicts")
        } else {
            for entry in entries { entry.show() }
        }
    }

    /// Newest first, of both sources.
    private func read() throws -> [Entry] {
        let summary = places.userspaceSummary()
        let kernel = try places.unlessAgentAnswers(summary != nil, else: []) {
            try places.guardState.conflicts()
        }
        let names = CgroupNames()
        let entries =
            kernel.map { Entry.kernel($0, names) }
            + (summary?.conflicts ?? []).map { Entry.userspace($0) }
            + (summary?.scan?.shadows ?? []).map { Entry.scan($0) }
        return entries.map { ($0.time, $0) }.sorted { $0.0 > $1.0 }.map(\.1)
    }

    /// A block of lines that any terminal has room for.
    static func show(
        _ conflict: Conflict, _ names: CgroupNames, to show: (String) -> Void = { print($0) }
    ) {
        let last = ConflictEventReport(conflict.last, cgroups: names)
        let times =
            conflict.count == 1 ? "once" : "\(conflict.count) times, first \(clock(conflict.first))"
        let title =
            conflict.last.reason == .exhausted
            ? "no port left for \(conflict.last.tuple.remote)" : conflict.last.tuple.description
        var lines = [
            "\(Terminal.bold(title))",
            "  \(label(last.action))\(times)\(conflict.count == 1 ? "," : ", last") \(clock(conflict.last.time))",
            "  \(label("claimant"))\(last.claimant?.description ?? "not known")",
            "  \(label("holder"))\(last.holder?.description ?? "not known")",
            "  \(label("because"))\(conflict.last.reason.explanation)",
        ]
        // Where no port is left, there are thousands of them.
        if conflict.last.reason == .exhausted { lines.remove(at: 3) }
        showBlock(lines, to: show)
    }

    /// The same for what programs reported.
    static func show(_ conflict: UserspaceConflictReport, to show: (String) -> Void = { print($0) })
    {
        func time(_ text: String) -> String { nanoseconds(of: text).map(clock) ?? text }
        let last = conflict.last
        let times =
            conflict.count == 1
            ? "once, \(time(conflict.lastTime))"
            : "\(conflict.count) times, first \(time(conflict.firstTime)), last \(time(conflict.lastTime))"
        let lines = [
            "\(Terminal.bold(printable(last.subject))) (userspace, \(last.transport))",
            "  \(label("reported"))\(times)",
            "  \(label("sender"))\(last.sender.description)",
            "  \(label("because"))\(last.explanation)",
        ]
        showBlock(lines, to: show)
    }

    /// The same for what a scan found.
    static func show(_ report: ScanEventReport, to show: (String) -> Void = { print($0) }) {
        let name = report.networkNamespaceName
        let place = name == NetworkNamespace.ownName ? "" : " in \(name)"
        let lines =
            ["\(Terminal.bold(printable("\(report.local) -> \(report.remote)"))) (scan)\(place)"]
            + ["  \(label("found"))\(nanoseconds(of: report.time).map(clock) ?? report.time)"]
            + ["  \(label("receives"))\(report.receiver.description)"]
            + report.overshadowed.map { "  \(label("in vain"))\($0.description)" }
        showBlock(lines, to: show)
    }

    private static func showBlock(_ lines: [String], to show: (String) -> Void) {
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
            } else if let report = UserspaceEventReport(json: line) {
                print("\(report.time) \(report.line)")
            } else if let report = ScanEventReport(json: line) {
                print("\(report.time) \(report.line)")
            }
            fflush(nil)  // also into a pipe, line by line
        }
        throw GuardError.failed(
            what: "follow any longer", errno: .init(EPIPE), detail: "the agent has stopped")
    }
}
