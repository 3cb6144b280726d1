// SPDX-License-Identifier: Apache-2.0
// Conflicts in the agent's log: what happens again and again in one line, and nobody's flood in the
// way of others.

import Logging
import TupleguardLinux
import TupleguardRecords

/// Logs conflicts. The first of a kind has a line at once; the same again is counted, and said
/// every ten seconds while it goes on.
///
/// A program that retries in a loop is refused a million times a second; a log that followed would
/// fill the disk. Counters and `conflicts` know of them all.
struct ConflictLog {
    /// Lines for one party (a user's processes in one cgroup), for a user, and for all together.
    static let rates = LayeredRates(
        party: Rate(perSecond: 10, burst: 50), user: Rate(perSecond: 50, burst: 100),
        all: Rate(perSecond: 100, burst: 200))
    /// In nanoseconds: how long what happens again is only counted.
    static let repetitionWindow: UInt64 = 10_000_000_000
    /// How many conflicts are known to have happened, at most; beyond that each has a line.
    static let repetitionLimit = 2048
    /// How many parties' suppressed lines are counted apart.
    static let partyLimit = 64
    private static let flushInterval: UInt64 = 1_000_000_000

    private struct Repetition {
        var since: UInt64
        var count = 0
        var last: any LoggedConflict
    }

    private let destination: AgentLog
    /// What it has lines of, several of them.
    private let noun: String
    private let cgroups: CgroupNames
    private let clock: () -> UInt64
    private var limits = LayeredLimit<LogParty>(rates, partyLimit: 1024)
    private var repetitions: [ConflictKey: Repetition] = [:]
    private var suppressed: [LogParty: Int] = [:]
    private var suppressedOthers = 0
    private var nextFlush: UInt64 = 0

    /// - Parameter clock: CLOCK_MONOTONIC.
    init(
        to destination: AgentLog, noun: String = "conflicts", cgroups: CgroupNames = CgroupNames(),
        clock: @escaping () -> UInt64 = { KernelClock.monotonic }
    ) {
        self.destination = destination
        self.noun = noun
        self.cgroups = cgroups
        self.clock = clock
    }

    /// - Parameter isFollowed: whether somebody wants the event too.
    /// - Returns: the event as JSON, if so.
    mutating func log(_ event: some LoggedConflict, isFollowed: Bool) -> String? {
        let now = clock()
        let hasLine = takesLine(event, now)
        if now >= nextFlush { flush() }
        // In a flood nearly all events end here, before anything is made of them.
        guard hasLine || isFollowed else { return nil }
        let named = event.namingCgroups(cgroups.path)
        let json = encodeJSON(named)
        if hasLine {
            destination.write(
                LogEntry(
                    time: event.time, message: named.line, json: json, fields: named.journalFields))
        }
        return isFollowed ? json : nil
    }

    private mutating func takesLine(_ event: some LoggedConflict, _ now: UInt64) -> Bool {
        let key = event.key
        if repetitions[key] != nil {
            repetitions[key]!.count += 1
            return false
        }
        guard limits.admit(key.party, ofUser: key.party.uid, now: now) else {
            if suppressed[key.party] != nil || suppressed.count < Self.partyLimit {
                suppressed[key.party, default: 0] += 1
            } else {
                suppressedOthers += 1
            }
            return false
        }
        if repetitions.count < Self.repetitionLimit {
            repetitions[key] = Repetition(since: now, last: event)
        }
        return true
    }

    // MARK: - What was not said at once

    /// Whether there is something that `flush` would say, now or later.
    var hasMore: Bool {
        !repetitions.isEmpty || !suppressed.isEmpty || suppressedOthers > 0
    }

    /// Says what is due: repetitions, and how many had no line.
    ///
    /// - Parameter isLast: all of it is due.
    mutating func flush(isLast: Bool = false) {
        let now = clock()
        nextFlush = now + Self.flushInterval
        for (key, repetition) in repetitions
        where isLast || now >= repetition.since + Self.repetitionWindow {
            if repetition.count > 0 { say(repetition, until: now) }
            // What went on may go on; what did not is news when it happens again.
            repetitions[key] =
                repetition.count > 0 && !isLast
                ? Repetition(since: now, last: repetition.last) : nil
        }
        for (party, count) in suppressed {
            var party = party
            party.path = cgroups.path(of: party.cgroup)
            sayNotLogged(count, of: "\(party)")
        }
        suppressed = [:]
        if suppressedOthers > 0 { sayNotLogged(suppressedOthers, of: "others") }
        suppressedOthers = 0
    }

    private func say(_ repetition: Repetition, until now: UInt64) {
        let named = repetition.last.namingCgroups(cgroups.path)
        let seconds = max(1, (now - repetition.since + 500_000_000) / 1_000_000_000)
        let times = repetition.count == 1 ? "once more" : "\(grouped(repetition.count)) more times"
        destination.write(
            LogEntry(
                message: "\(times) in \(seconds)s: \(named.line)",
                fields: named.journalFields
                    + [JournalField("TUPLEGUARD_COUNT", "\(repetition.count)")]))
    }

    private func sayNotLogged(_ count: Int, of whom: String) {
        destination.write(
            LogEntry(
                message: "\(grouped(count)) more \(noun) of \(whom), not logged one by one"))
    }
}
