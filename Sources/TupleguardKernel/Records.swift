// SPDX-License-Identifier: Apache-2.0
// What the guard tells: processes, claims, conflicts, events.

import Glibc
import TupleguardABI
import TupleguardLinux
package import TupleguardSockets

/// A process that was part of a conflict.
package struct Process: Hashable, Sendable {
    /// Process id in the initial PID namespace; 0 when it is not known.
    package let pid: UInt32
    /// Owner of its socket.
    package let uid: UInt32
    /// The first 15 bytes of the connecting thread's name (`/proc/PID/comm` where it
    /// names none of its own), unprintable ones as "?".
    package let command: String
    /// Id of its socket's cgroup in the v2 hierarchy; 0 when it is not known.
    package let cgroup: UInt64

    init(_ process: tg_process) {
        pid = process.pid
        uid = process.uid
        cgroup = process.cgroup
        command = withUnsafeBytes(of: process.comm) { commandName($0) }
    }

    package var isKnown: Bool { pid != 0 }
}

/// A process names itself: nothing that a terminal would obey may come through.
package func commandName(_ name: UnsafeRawBufferPointer) -> String {
    String(
        decoding: name.prefix { $0 != 0 }.map { (0x20..<0x7f).contains($0) ? $0 : 0x3f },
        as: UTF8.self)
}

extension FourTuple {
    init(_ tuple: tg_tuple) {
        self.init(
            local: Endpoint(IPAddress(networkWords: tuple.local), tuple.local_port),
            remote: Endpoint(IPAddress(networkWords: tuple.remote), tuple.remote_port))
    }
}

/// A live claim: one socket's title to one tuple.
package struct Claim: Sendable {
    /// Its local address is unspecified where the socket is bound to no address.
    package let tuple: FourTuple
    /// Low half of the network namespace's cookie (SO_NETNS_COOKIE).
    package let networkNamespace: UInt32
    /// The socket's cookie (SO_COOKIE).
    package let cookie: UInt64
    /// When it was claimed: nanoseconds since 1970.
    package let since: UInt64
    /// The process that claimed it, in the initial PID namespace; 0 when it is not known.
    package let pid: UInt32
    /// The first 15 bytes of the connecting thread's name, unprintable ones as "?".
    package let command: String
}

/// Why a connect was a conflict.
package enum Reason: UInt32, CaseIterable, Sendable {
    case held = 1
    case inFlight = 2
    case ambiguous = 3
    case outside = 4
    case tableFull = 5
    case busy = 6
    case existing = 7
    case exhausted = 8
    case unlocked = 9
    case shadow = 10

    /// A stable name, for machines.
    package var name: String {
        switch self {
        case .held: "held"
        case .inFlight: "in-flight"
        case .ambiguous: "ambiguous"
        case .outside: "outside"
        case .tableFull: "table-full"
        case .busy: "busy"
        case .existing: "existing"
        case .exhausted: "exhausted"
        case .unlocked: "unlocked"
        case .shadow: "shadow"
        }
    }

    /// For people, after "because".
    package var explanation: String {
        switch self {
        case .held: "another socket is connected with this tuple"
        case .inFlight: "another socket claimed it less than a second ago"
        case .ambiguous: "one side has no fixed local address, so the tuples may be the same"
        case .outside: "a socket outside the guarded cgroup is connected with this tuple"
        case .tableFull: "the claim table is full"
        case .busy: "too many connects are in flight on this socket"
        case .existing: "both sockets were connected before the guard was attached"
        case .exhausted: "every local port is taken for this destination"
        case .shadow: "both sockets hold it, and one of them has not claimed it"
        case .unlocked: "the kernel chose its port, which could still change (strict)"
        }
    }
}

/// One conflict.
package struct ConflictEvent: Sendable {
    /// Nanoseconds since 1970.
    package let time: UInt64
    /// Cgroup id of the attachment that decided; 0 for what seeding found.
    package let attachment: UInt64
    package let reason: Reason
    /// Whether the connect was let through all the same.
    package let wasAllowed: Bool
    package let tuple: FourTuple
    package let networkNamespace: UInt32
    package let claimant: Process
    package let claimantCookie: UInt64
    package let holder: Process
    /// 0 where the holder is not known.
    package let holderCookie: UInt64

    /// Whether both sockets held the tuple when it was found out: nothing was refused, nor let through.
    package var wasFound: Bool { reason == .existing || reason == .shadow }

    /// Nil for a record of a reason that does not exist.
    init?(_ event: tg_event) {
        guard let reason = Reason(rawValue: event.reason) else { return nil }
        time = KernelClock.realTime(atMonotonic: event.time_ns)
        attachment = event.attachment
        self.reason = reason
        wasAllowed = event.allowed != 0
        tuple = FourTuple(event.tuple)
        networkNamespace = event.tuple.netns
        claimant = Process(event.claimant)
        claimantCookie = event.claimant_cookie
        holder = Process(event.holder)
        holderCookie = event.holder_cookie
    }

    /// Decodes a record of the ring buffer; nil when it has another length or no sense.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == MemoryLayout<tg_event>.size else { return nil }
        self.init(bytes.loadUnaligned(as: tg_event.self))
    }
}

/// All refusals of one tuple.
package struct Conflict: Sendable {
    package let count: UInt64
    /// Nanoseconds since 1970.
    package let first: UInt64
    package let last: ConflictEvent
}

extension GuardState {
    /// Every claim there is.
    package func claims() throws -> [Claim] {
        var claims: [Claim] = []
        try forEachGroup { key, group in
            guard group.word & UInt64(TG_WORD_INLINE) != 0 else { return }
            let tuple = tg_tuple(
                netns: key.netns, local_port: key.local_port, remote_port: key.remote_port,
                remote: key.remote, local: group.source)
            claims.append(Claim(tuple, group.claim))
        }
        try open(.claimsMore).forEach(tg_tuple.self, tg_further.self) { tuple, further in
            if further.word != 0 { claims.append(Claim(tuple, further.claim)) }
        }
        return claims
    }

    /// Every group that is in a bucket or in the hash map behind the buckets.
    private func forEachGroup(_ body: (tg_group_key, tg_group) throws -> Void) throws {
        try open(.buckets).forEach(UInt32.self, tg_bucket.self) { _, bucket in
            guard bucket.control & UInt64(TG_BUCKET_STATE) == UInt64(TG_BUCKET_USED) else { return }
            try body(bucket.key, bucket.group)
        }
        try open(.groups).forEach(tg_group_key.self, tg_group.self, body)
    }

    /// How many claims there are.
    package func claimCount() throws -> Int {
        var count = 0
        try forEachGroup { _, group in
            if group.word & UInt64(TG_WORD_INLINE) != 0 { count += 1 }
        }
        try open(.claimsMore).forEach(tg_tuple.self, tg_further.self) { _, further in
            if further.word != 0 { count += 1 }
        }
        return count
    }

    /// The refused tuples that are remembered (the latest 4,096 or so), newest first.
    package func conflicts() throws -> [Conflict] {
        var conflicts: [Conflict] = []
        try open(.conflicts).forEach(tg_tuple.self, tg_conflict.self) { _, conflict in
            guard let last = ConflictEvent(conflict.last) else { return }
            conflicts.append(
                Conflict(
                    count: conflict.count,
                    first: KernelClock.realTime(atMonotonic: conflict.first_ns),
                    last: last))
        }
        return conflicts.sorted { $0.last.time > $1.last.time }
    }
}

extension Claim {
    fileprivate init(_ tuple: tg_tuple, _ claim: tg_claim) {
        self.init(
            tuple: FourTuple(tuple), networkNamespace: tuple.netns, cookie: claim.cookie,
            since: KernelClock.realTime(atMonotonic: claim.time_ns), pid: claim.pid,
            command: withUnsafeBytes(of: claim.comm) { commandName($0) })
    }
}
