// SPDX-License-Identifier: Apache-2.0
// Conflicts as blocks of lines.

import ConnectxCore
import Testing
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

@testable import tupleguard

struct ConflictTextTests {
    private static let first = Timestamp(nanosecondsSince1970: 1_769_860_800_000_000_000)
    private static let tuple = FourTuple(
        local: Endpoint("[::]:40000")!, remote: Endpoint("198.51.100.7:53")!)

    private func block(
        count: UInt64, reason: Reason = .held, action: GuardEvent.Action = .refused,
        holder: ProcessIdentity? = ProcessIdentity(pid: 815, uid: 0, command: "server")
    ) -> [String] {
        let event = GuardEvent(
            time: .now, action: action, reason: reason, tuple: Self.tuple, networkNamespace: 0,
            guardedCgroupId: 0,
            claimant: ProcessIdentity(pid: 4711, uid: 1000, command: "client"), holder: holder)
        return KnownConflict.guard(Conflict(count: count, first: Self.first, last: event)).lines
    }

    @Test("Who was refused, who holds the tuple, how often, why")
    func refused() {
        let lines = block(count: 3)
        #expect(lines.count == 5)
        #expect(lines[0].contains("*:40000 -> 198.51.100.7:53"))
        #expect(lines[1].hasPrefix("  refused   3 times, first \(Self.first.clock), last "))
        #expect(lines[2] == "  claimant  client (pid 4711, uid 1000)")
        #expect(lines[3] == "  holder    server (pid 815, uid 0)")
        #expect(lines[4] == "  because   another socket is connected with this tuple")
    }

    @Test("Once is not several times")
    func once() {
        let line = block(count: 1)[1]
        #expect(line.hasPrefix("  refused   once, "))
        #expect(!line.contains("first") && !line.contains("last"))
    }

    @Test("A holder that is not known")
    func unknownHolder() {
        #expect(block(count: 1, reason: .outside, holder: nil)[3] == "  holder    not known")
    }

    @Test("Where no port is left there is no holder to name")
    func exhausted() {
        let lines = block(count: 1, reason: .exhausted)
        #expect(lines.count == 4)
        #expect(lines[0].contains("no port left for 198.51.100.7:53"))
    }

    @Test("All lines of a block begin in the same columns")
    func alignment() {
        #expect(block(count: 1, action: .observed)[1].hasPrefix("  observed  once"))
        #expect(block(count: 1, reason: .existing, action: .found)[1].hasPrefix("  found     once"))
    }

    @Test("What a program gave notice of is marked as its own words")
    func connectx() {
        let event = ConnectxEvent(
            time: .now,
            notice: Notice(kind: .lostRace, transport: .udp, tuple: Self.tuple, count: 1),
            sender: ProcessIdentity(pid: 4711, uid: 1000, command: nil))
        let lines = KnownConflict.connectx(Conflict(count: 1, first: Self.first, last: event)).lines
        #expect(lines[0].hasSuffix(" (connectx, udp)"))
        #expect(lines[1].hasPrefix("  reported  once, "))
        #expect(lines[2] == "  sender    a process that has gone (pid 4711, uid 1000)")
    }
}
