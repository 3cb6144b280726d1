// SPDX-License-Identifier: Apache-2.0
// What the programs tell of conflicts, as records that mean something outside of the kernel.

import TupleguardABI
package import TupleguardRecords
import TupleguardSockets

extension Reason {
    /// Nil for one that this version does not know.
    init?(_ reason: UInt32) {
        switch tg_reason(reason) {
        case TG_REASON_HELD: self = .held
        case TG_REASON_IN_FLIGHT: self = .inFlight
        case TG_REASON_AMBIGUOUS: self = .ambiguous
        case TG_REASON_OUTSIDE: self = .outside
        case TG_REASON_TABLE_FULL: self = .tableFull
        case TG_REASON_BUSY: self = .busy
        case TG_REASON_EXISTING: self = .existing
        case TG_REASON_EXHAUSTED: self = .exhausted
        case TG_REASON_UNLOCKED: self = .unlocked
        case TG_REASON_SHADOW: self = .shadow
        case TG_REASON_OUTSIDER: self = .outsider
        case TG_REASON_REWRITTEN: self = .rewritten
        case TG_REASON_BUDGET: self = .budget
        default: return nil
        }
    }
}

extension ProcessIdentity {
    /// Nil for a process of which nothing is known.
    init?(_ process: tg_process) {
        guard process.pid != 0 || process.cgroup != 0 || process.uid != 0 else { return nil }
        self.init(
            pid: Int32(bitPattern: process.pid), uid: process.uid,
            command: withUnsafeBytes(of: process.comm) { commandName($0) },
            cgroupId: process.cgroup)
    }
}

extension GuardEvent {
    /// Nil for a record of a reason that does not exist.
    init?(_ event: tg_event) {
        guard let reason = Reason(event.reason) else { return nil }
        self.init(
            time: Timestamp(monotonic: event.time_ns),
            action: reason.isFound ? .found : event.allowed != 0 ? .observed : .refused,
            reason: reason, tuple: FourTuple(event.tuple), networkNamespace: event.tuple.netns,
            guardedCgroupId: event.attachment, claimant: ProcessIdentity(event.claimant),
            holder: ProcessIdentity(event.holder))
        transport = UInt8(exactly: event.protocol).flatMap(Transport.init) ?? .udp
        (claimantCookie, holderCookie) = (event.claimant_cookie, event.holder_cookie)
    }

    /// Decodes a record of the ring buffer; nil when it has another length or no sense.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == MemoryLayout<tg_event>.size else { return nil }
        self.init(bytes.loadUnaligned(as: tg_event.self))
    }
}

extension GuardState {
    /// The refused tuples that are remembered (the latest 4,096 or so), newest first.
    package func conflicts() throws -> [Conflict<GuardEvent>] {
        var conflicts: [Conflict<GuardEvent>] = []
        try open(.conflicts).forEach(tg_tuple.self, tg_conflict.self) { _, conflict in
            guard let last = GuardEvent(conflict.last) else { return }
            conflicts.append(
                Conflict(
                    count: conflict.count,
                    first: Timestamp(monotonic: conflict.first_ns),
                    last: last))
        }
        return conflicts.sorted { $0.last.time > $1.last.time }
    }
}
