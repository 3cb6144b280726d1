// SPDX-License-Identifier: Apache-2.0
// The agent's log: lines on stderr, for people or as JSON.

import Glibc
import Logging
import TupleguardKernel
import TupleguardLinux

package enum LogFormat: String, CaseIterable, Sendable {
    case text
    case json
}

/// Writes a line for each message to stderr.
struct AgentLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info
    let format: LogFormat

    init(format: LogFormat) {
        self.format = format
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    private struct Line: Encodable {
        let time: String
        let level: String
        let message: String
    }

    func log(event: LogEvent) {
        let time = timestamp(KernelClock.realTime)
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        let message = event.message.description + fields.map { " \($0.key)=\($0.value)" }.joined()
        switch format {
        case .text: writeLine("\(time) \(event.level) \(message)")
        case .json:
            writeLine(encodeJSON(Line(time: time, level: "\(event.level)", message: message)))
        }
    }
}

/// One write, so that lines of several threads do not mix.
func writeLine(_ line: String) {
    _ = (line + "\n").withCString { write(STDERR_FILENO, $0, strlen($0)) }
}

/// What the agent tells of one conflict.
protocol LoggedReport: Encodable {
    var time: String { get }
    /// One line for people, without the time.
    var line: String { get }
}

extension ConflictEventReport: LoggedReport {}
extension UserspaceEventReport: LoggedReport {}

/// Logs conflicts: each in a line of its own, up to a number in a second, then their count.
///
/// A program that retries in a loop is refused a million times a second; a log
/// that followed would fill the disk. Counters and `conflicts` know of them all.
struct ConflictLog {
    static let linesPerSecond = 100

    let logger: Logger
    let format: LogFormat
    /// What it has lines of, several of them.
    let noun: String
    private let cgroups = CgroupNames()
    private var second: UInt64 = 0
    private var lines = 0
    private var suppressed = 0

    init(logger: Logger, format: LogFormat, noun: String = "conflicts") {
        self.logger = logger
        self.format = format
        self.noun = noun
    }

    /// - Parameter isFollowed: whether somebody wants the report too.
    /// - Returns: the report as JSON, if so.
    mutating func log(_ event: ConflictEvent, isFollowed: Bool) -> String? {
        log(at: event.time, isFollowed: isFollowed) { ConflictEventReport(event, cgroups: $0) }
    }

    /// As for an event of the guard's.
    mutating func log(_ event: UserspaceEvent, isFollowed: Bool) -> String? {
        log(at: event.time, isFollowed: isFollowed) { UserspaceEventReport(event, cgroups: $0) }
    }

    /// - Parameter time: nanoseconds since 1970.
    mutating func log(
        at time: UInt64, isFollowed: Bool, _ makeReport: (CgroupNames) -> some LoggedReport
    ) -> String? {
        let now = time / 1_000_000_000
        if now != second {
            flush()
            second = now
            lines = 0
        }
        let hasLine = lines < Self.linesPerSecond
        if hasLine { lines += 1 } else { suppressed += 1 }
        // In a flood nearly all events end here, before anything is made of them.
        guard hasLine || isFollowed else { return nil }
        let report = makeReport(cgroups)
        if hasLine { write(report) }
        return isFollowed ? encodeJSON(report) : nil
    }

    private func write(_ report: some LoggedReport) {
        switch format {
        case .text: writeLine("\(report.time) notice \(report.line)")
        case .json: writeLine(encodeJSON(report))
        }
    }

    /// Whether there is something that `flush` would say.
    var hasMore: Bool { suppressed > 0 }

    /// Says how many had no line of their own.
    mutating func flush() {
        guard suppressed > 0 else { return }
        logger.notice("\(suppressed) more \(noun) in that second, not logged one by one")
        suppressed = 0
    }
}
