// SPDX-License-Identifier: Apache-2.0
// What programs ran into without the guard, as they report it: a bounded memory,
// for it is filled by processes that nobody vouches for.

import CTupleguardLinux
import ConnectxCore
import Glibc
import Synchronization
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// The process that sent a report. What is not in the credentials was read when the report had
/// come, and may be missing, or with much bad luck be that of a later process of the same user.
struct SenderProcess: Sendable {
    let sender: Sender
    /// `/proc/PID/comm`; nil when the process had gone already.
    let command: String?
    /// Id of its cgroup in the v2 hierarchy; 0 when it is not known.
    let cgroup: UInt64

    init(_ sender: Sender, command: String? = nil, cgroup: UInt64 = 0) {
        self.sender = sender
        self.command = command
        self.cgroup = cgroup
    }

    /// Reads what /proc still says of `sender`.
    init(reading sender: Sender, in hierarchy: CgroupHierarchy?) {
        let pid = Int32(bitPattern: sender.pid)
        let command = contents(of: "/proc/\(pid)/comm")
        let cgroup = hierarchy?.folder(ofProcess: pid).flatMap(cgroupID) ?? 0
        // Last, so that all of it is the sender's if this is.
        let isSenders = pid > 0 && userIDs(of: pid).contains(sender.uid)
        self.init(
            sender, command: isSenders ? command.map(plainCommand) : nil,
            cgroup: isSenders ? cgroup : 0)
    }
}

/// Without the end of the line, and like the names that the guard reads.
private func plainCommand(_ comm: String) -> String {
    let name = comm.last == "\n" ? comm.dropLast() : comm[...]
    return Array(name.utf8.prefix(15)).withUnsafeBytes { commandName($0) }
}

/// The real, effective, saved and file-system user of a process; empty when there is none.
private func userIDs(of pid: Int32) -> [UInt32] {
    let status = contents(of: "/proc/\(pid)/status") ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("Uid:") }
    return line?.split(separator: "\t").compactMap { UInt32($0) } ?? []
}

private func cgroupID(folder: String) -> UInt64? {
    guard let descriptor = try? OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
    else { return nil }
    var id: UInt64 = 0
    return linux_cgroup_id(descriptor.raw, &id) == 0 ? id : nil
}

/// A report that was heard.
struct UserspaceEvent: Sendable {
    /// Nanoseconds since 1970.
    let time: UInt64
    let report: Notice
    let process: SenderProcess
}

/// What the programs of one user reported of one tuple.
struct UserspaceConflict: Sendable {
    /// As often as they say it happened.
    private(set) var count: UInt64
    /// Nanoseconds since 1970.
    let first: UInt64
    private(set) var last: UserspaceEvent

    fileprivate init(_ event: UserspaceEvent) {
        count = UInt64(event.report.count)
        first = event.time
        last = event
    }

    fileprivate mutating func add(_ event: UserspaceEvent) {
        count &+= UInt64(event.report.count)
        last = event
    }
}

/// How much came since the agent started.
package struct UserspaceTotals: Codable, Equatable, Sendable {
    /// Reports that were heard.
    package internal(set) var reports: UInt64 = 0
    /// How often each kind happened, as the reports say.
    package internal(set) var conflict: UInt64 = 0
    package internal(set) var lostRace: UInt64 = 0
    package internal(set) var exhausted: UInt64 = 0
    /// Reports that were dropped because their sender, its user or all together sent too many.
    package internal(set) var limited: UInt64 = 0
    /// Datagrams that were none of connectx's.
    package internal(set) var invalid: UInt64 = 0
}

/// The reports that are remembered, tuple by tuple.
///
/// Users have their entries apart: what one says of a tuple changes nothing of what another
/// said. Where there is no room the oldest makes way, and one user's own oldest as soon as
/// he has a quarter of the room, so that nobody drives out everybody.
struct UserspaceTable: Sendable {
    static let limit = 4096
    static let limitOfUser = limit / 4
    /// How often a report may say that something happened since the one before.
    static let largestCount: UInt32 = 1_000_000

    private struct Key: Hashable {
        let uid: UInt32
        let kind: Notice.Kind
        let transport: Transport
        let tuple: FourTuple
    }

    private var entries: [Key: UserspaceConflict] = [:]
    private var ofUser: [UInt32: Int] = [:]
    private(set) var totals = UserspaceTotals()

    mutating func countInvalid() { totals.invalid &+= 1 }
    mutating func countLimited() { totals.limited &+= 1 }

    /// - Parameter time: nanoseconds since 1970.
    /// - Returns: what was remembered, with a count that can be believed.
    mutating func record(_ report: Notice, from process: SenderProcess, time: UInt64)
        -> UserspaceEvent
    {
        var report = report
        report.count = min(report.count, Self.largestCount)
        let event = UserspaceEvent(time: time, report: report, process: process)
        let key = Key(
            uid: process.sender.uid, kind: report.kind, transport: report.transport,
            tuple: report.tuple)
        if entries[key]?.add(event) == nil { insert(event, key) }
        count(report)
        return event
    }

    private mutating func count(_ report: Notice) {
        totals.reports &+= 1
        switch report.kind {
        case .conflict: totals.conflict &+= UInt64(report.count)
        case .lostRace: totals.lostRace &+= UInt64(report.count)
        case .exhausted: totals.exhausted &+= UInt64(report.count)
        }
    }

    private mutating func insert(_ event: UserspaceEvent, _ key: Key) {
        if ofUser[key.uid, default: 0] >= Self.limitOfUser {
            removeOldest(of: key.uid)
        } else if entries.count >= Self.limit {
            removeOldest(of: nil)
        }
        entries[key] = UserspaceConflict(event)
        ofUser[key.uid, default: 0] += 1
    }

    /// Looks through them all: it takes microseconds, and the limits on reports bound how often.
    private mutating func removeOldest(of uid: UInt32?) {
        let candidates = entries.lazy.filter { uid == nil || $0.key.uid == uid }
        guard let oldest = candidates.min(by: { $0.value.last.time < $1.value.last.time })?.key
        else { return }
        entries[oldest] = nil
        let left = (ofUser[oldest.uid] ?? 1) - 1
        ofUser[oldest.uid] = left > 0 ? left : nil
    }

    /// Newest first.
    var conflicts: [UserspaceConflict] {
        entries.values.sorted { $0.last.time > $1.last.time }
    }
}

/// The table as the receiver fills it and the server reads it.
final class UserspaceConflicts: Sendable {
    private let table = Mutex(UserspaceTable())

    func countInvalid() { table.withLock { $0.countInvalid() } }
    func countLimited() { table.withLock { $0.countLimited() } }

    func record(_ report: Notice, from process: SenderProcess, time: UInt64)
        -> UserspaceEvent
    {
        table.withLock { $0.record(report, from: process, time: time) }
    }

    /// What there is now; made into text outside the lock.
    func summary(_ cgroups: CgroupNames) -> UserspaceSummary {
        let table = table.withLock { $0 }
        return UserspaceSummary(
            totals: table.totals,
            conflicts: table.conflicts.map { UserspaceConflictReport($0, cgroups: cgroups) })
    }
}
