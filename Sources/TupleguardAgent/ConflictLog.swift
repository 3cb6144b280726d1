// SPDX-License-Identifier: Apache-2.0
// Conflicts in the agent's log, as lines or as JSON.

import Logging
import TupleguardLinux
import TupleguardRecords

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

    /// - Parameter isFollowed: whether somebody wants the event too.
    /// - Returns: the event as JSON, if so.
    mutating func log(_ event: some ConflictEvent, isFollowed: Bool) -> String? {
        let now = event.time.secondsSince1970
        if now != second {
            flush()
            second = now
            lines = 0
        }
        let hasLine = lines < Self.linesPerSecond
        if hasLine { lines += 1 } else { suppressed += 1 }
        // In a flood nearly all events end here, before anything is made of them.
        guard hasLine || isFollowed else { return nil }
        let named = event.namingCgroups(cgroups.path)
        if hasLine { write(named) }
        return isFollowed ? encodeJSON(named) : nil
    }

    private func write(_ event: some ConflictEvent) {
        switch format {
        case .text: writeLine("\(event.time) notice \(event.line)")
        case .json: writeLine(encodeJSON(event))
        }
    }

    /// Whether there is something that `flush` would say.
    var hasMore: Bool { suppressed > 0 }

    /// Says how many had no line of their own.
    mutating func flush() {
        guard suppressed > 0 else { return }
        logger.notice("\(grouped(suppressed)) more \(noun) in that second, not logged one by one")
        suppressed = 0
    }
}
