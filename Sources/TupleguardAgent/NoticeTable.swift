// SPDX-License-Identifier: Apache-2.0
// What programs ran into without the guard, as they give notice of it: a bounded memory,
// for it is filled by processes that nobody vouches for.

import ConnectxCore
import Synchronization
import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// The notices that are remembered, tuple by tuple.
///
/// Users have their entries apart: what one says of a tuple changes nothing of what another
/// said. Where there is no room the oldest makes way, and one user's own oldest as soon as
/// he has a quarter of the room, so that nobody drives out everybody.
struct NoticeTable: Sendable {
    static let limit = 4096
    static let limitOfUser = limit / 4
    /// How often a notice may say that something happened since the one before it.
    static let largestCount: UInt32 = 1_000_000

    private struct Key: Hashable {
        let uid: UInt32
        let kind: Notice.Kind
        let transport: Transport
        let tuple: FourTuple
    }

    private var entries: [Key: Conflict<ConnectxEvent>] = [:]
    /// How many entries each user has; of those who have none, nothing.
    private(set) var ofUser: [UInt32: Int] = [:]
    private(set) var totals = NoticeTotals()

    mutating func countInvalid() { totals.invalid &+= 1 }
    mutating func countLimited() { totals.limited &+= 1 }

    /// - Returns: what was remembered, with a count that can be believed.
    mutating func record(
        _ notice: Notice, from sender: ProcessIdentity, time: Timestamp
    ) -> ConnectxEvent {
        var notice = notice
        notice.count = min(notice.count, Self.largestCount)
        let event = ConnectxEvent(time: time, notice: notice, sender: sender)
        let key = Key(
            uid: sender.uid, kind: notice.kind, transport: notice.transport, tuple: notice.tuple)
        if entries[key] == nil { insert(event, key) }
        entries[key]?.count &+= UInt64(notice.count)
        entries[key]?.last = event
        count(notice)
        return event
    }

    private mutating func count(_ notice: Notice) {
        totals.notices &+= 1
        switch notice.kind {
        case .conflict: totals.conflict &+= UInt64(notice.count)
        case .lostRace: totals.lostRace &+= UInt64(notice.count)
        case .exhausted:
            totals.exhausted &+= UInt64(notice.count)
            if notice.transport == .tcp { totals.exhaustedTcp &+= UInt64(notice.count) }
        }
    }

    private mutating func insert(_ event: ConnectxEvent, _ key: Key) {
        if ofUser[key.uid, default: 0] >= Self.limitOfUser {
            removeOldest(of: key.uid)
        } else if entries.count >= Self.limit {
            removeOldest(of: nil)
        }
        entries[key] = Conflict(count: 0, first: event.time, last: event)
        ofUser[key.uid, default: 0] += 1
    }

    /// Looks through them all: it takes microseconds, and the limits on notices bound how often.
    private mutating func removeOldest(of uid: UInt32?) {
        let candidates = entries.lazy.filter { uid == nil || $0.key.uid == uid }
        guard let oldest = candidates.min(by: { $0.value.last.time < $1.value.last.time })?.key
        else { return }
        entries[oldest] = nil
        let left = (ofUser[oldest.uid] ?? 1) - 1
        ofUser[oldest.uid] = left > 0 ? left : nil
    }

    /// Newest first.
    var conflicts: [Conflict<ConnectxEvent>] {
        entries.values.sorted { $0.last.time > $1.last.time }
    }
}

/// The table as the receiver fills it and the server reads it.
final class Notices: Sendable {
    private let table = Mutex(NoticeTable())

    func countInvalid() { table.withLock { $0.countInvalid() } }
    func countLimited() { table.withLock { $0.countLimited() } }

    func record(
        _ notice: Notice, from sender: ProcessIdentity, time: Timestamp
    ) -> ConnectxEvent {
        table.withLock { $0.record(notice, from: sender, time: time) }
    }

    var totals: NoticeTotals { table.withLock { $0.totals } }

    /// What there is now; named outside the lock.
    func conflicts(_ cgroups: CgroupNames) -> [Conflict<ConnectxEvent>] {
        table.withLock { $0 }.conflicts.map { $0.namingCgroups(cgroups.path) }
    }
}
