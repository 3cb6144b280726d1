// SPDX-License-Identifier: Apache-2.0
// Decoding what comes through the ring buffer: whole, short, long and corrupted records.

import Glibc
import Testing
import TupleguardABI
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

@testable import TupleguardKernel

struct EventTests {
    @Test("Every field of a well-formed record arrives")
    func wellFormed() throws {
        let event = try #require(decode(bytes(of: makeEvent())))
        #expect(event.reason == .held)
        #expect(event.action == .refused)
        #expect(event.guardedCgroupId == 77)
        #expect(event.tuple.description == "192.0.2.1:40000 -> 198.51.100.7:53")
        #expect(event.networkNamespace == 1)
        #expect(
            event.claimant
                == ProcessIdentity(pid: 4711, uid: 1000, command: "client", cgroupId: 0))
        #expect(
            event.holder == ProcessIdentity(pid: 815, uid: 0, command: "server", cgroupId: 0))
        #expect(event.claimantCookie == 12)
        #expect(event.holderCookie == 11)
    }

    @Test("The time of an event is the time of day")
    func time() throws {
        let event = try #require(decode(bytes(of: makeEvent())))
        // An hour's room: it is the clock and the unit that are checked, not the machine's speed.
        let hour: UInt64 = 3_600_000_000_000
        let now = KernelClock.realTime
        let time = event.time.nanosecondsSince1970
        #expect(time > now - hour && time < now + hour)
    }

    @Test(
        "Whether the connect was let through",
        arguments: [(UInt16(0), .refused), (1, .observed), (2, .observed)]
            as [(UInt16, GuardEvent.Action)])
    func allowed(value: UInt16, action: GuardEvent.Action) throws {
        let event = try #require(decode(bytes(of: makeEvent(allowed: value))))
        #expect(event.action == action)
        let existing = makeEvent(reason: TG_REASON_EXISTING.rawValue, allowed: value)
        #expect(decode(bytes(of: existing))?.action == .found)
    }

    @Test("A process of which nothing is known is none; one without a number has a user")
    func unknownProcesses() throws {
        var record = makeEvent()
        record.claimant = tg_process()
        record.holder = makeProcess([], pid: 0, uid: 33)
        let event = try #require(decode(bytes(of: record)))
        #expect(event.claimant == nil)
        #expect(event.holder?.nameAndNumbers == "a process that is not known (uid 33)")
    }

    @Test("Every reason of the programs has its case, and each its own name and explanation")
    func reasons() throws {
        let expected: [(tg_reason, Reason)] = [
            (TG_REASON_HELD, .held), (TG_REASON_IN_FLIGHT, .inFlight),
            (TG_REASON_AMBIGUOUS, .ambiguous), (TG_REASON_OUTSIDE, .outside),
            (TG_REASON_TABLE_FULL, .tableFull), (TG_REASON_BUSY, .busy),
            (TG_REASON_EXISTING, .existing), (TG_REASON_EXHAUSTED, .exhausted),
            (TG_REASON_UNLOCKED, .unlocked), (TG_REASON_SHADOW, .shadow),
            (TG_REASON_OUTSIDER, .outsider), (TG_REASON_REWRITTEN, .rewritten),
            (TG_REASON_BUDGET, .budget),
        ]
        for (number, reason) in expected {
            #expect(decode(bytes(of: makeEvent(reason: number.rawValue)))?.reason == reason)
        }
        #expect(Set(expected.map(\.1)) == Set(Reason.allCases))
        #expect(Set(Reason.allCases.map(\.rawValue)).count == Reason.allCases.count)
        #expect(Set(Reason.allCases.map(\.explanation)).count == Reason.allCases.count)
    }

    @Test("The names of the reasons are stable")
    func reasonNames() {
        #expect(
            Reason.allCases.map(\.rawValue) == [
                "held", "in-flight", "ambiguous", "outside", "table-full", "busy", "existing",
                "exhausted", "unlocked", "shadow", "outsider", "rewritten", "budget",
            ])
    }

    @Test(
        "A record of a reason that does not exist makes no sense",
        arguments: [0, 200, 255, UInt32.max])
    func unknownReason(number: UInt32) {
        #expect(decode(bytes(of: makeEvent(reason: number))) == nil)
    }

    @Test("A record that is short, by however much, makes no sense")
    func short() {
        let whole = bytes(of: makeEvent())
        for count in 0..<whole.count {
            #expect(decode(Array(whole[..<count])) == nil, "\(count) bytes")
        }
    }

    @Test("A record that is long makes no sense", arguments: [1, 7, 8, 144, 65_536])
    func long(by excess: Int) {
        #expect(decode(bytes(of: makeEvent()) + [UInt8](repeating: 0, count: excess)) == nil)
    }

    @Test("No record at all, not even an address")
    func empty() {
        #expect(GuardEvent(bytes: UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
    }

    @Test("A record may lie at any address")
    func unaligned() {
        let whole = bytes(of: makeEvent())
        for offset in 0..<8 {
            let shifted = [UInt8](repeating: 0xff, count: offset) + whole
            let event = shifted.withUnsafeBytes {
                GuardEvent(bytes: UnsafeRawBufferPointer(rebasing: $0[offset...]))
            }
            #expect(event?.claimant?.command == "client")
        }
    }

    @Test("Random bytes decode to nothing, or to something that can be printed")
    func randomBytes() {
        for _ in 0..<5000 {
            var record = tg_event()
            withUnsafeMutableBytes(of: &record) { bytes in
                for index in bytes.indices { bytes[index] = .random(in: 0...255) }
            }
            // Half of them get past the reason. Times have a test of their own.
            if Bool.random() { record.reason = .random(in: 1...7) }
            record.time_ns >>= 2
            let event = decode(bytes(of: record))
            #expect((event == nil) == !(1...7).contains(record.reason))
            guard let event else { continue }
            let text =
                "\(event.tuple) \(event.claimant?.command ?? "") \(event.holder?.command ?? "")"
            #expect(text.utf8.allSatisfy { (0x20..<0x7f).contains($0) }, "\(text)")
        }
    }

    @Test("A time that cannot be is no reason to crash")
    func corruptedTimes() async {
        await #expect(processExitsWith: .success) {
            for time in [0, 1, UInt64.max, 1 << 63, UInt64(Int64.max), UInt64(Int64.max) - 1] {
                var record = makeEvent()
                record.time_ns = time
                guard decode(bytes(of: record)) != nil else { exit(1) }
            }
        }
    }

    @Test("Before the machine was booted, and before 1970")
    func earlyTimes() {
        #expect(KernelClock.realTime(atMonotonic: 0) < KernelClock.realTime)
        // 9,223,372,036 seconds before the boot.
        #expect(KernelClock.realTime(atMonotonic: 1 << 63) == 0)
    }
}

struct ProcessTests {
    private func command(_ name: [UInt8]) -> String {
        ProcessIdentity(makeProcess(name))?.command ?? ""
    }

    @Test("A name ends with its first zero")
    func names() {
        #expect(command(Array("curl".utf8)) == "curl")
        #expect(command([]) == "")
        #expect(command(Array("ab".utf8) + [0] + Array("cd".utf8)) == "ab")
        #expect(command(Array("with space".utf8)) == "with space")
    }

    @Test("A name without a zero ends with the field")
    func unterminated() {
        #expect(command([UInt8](repeating: UInt8(ascii: "x"), count: 16)) == "xxxxxxxxxxxxxxxx")
    }

    @Test("Nothing that a terminal would obey comes through: one ? for each such byte")
    func controlCharacters() {
        #expect(command(Array("\u{1B}[2J".utf8)) == "?[2J")
        #expect(command(Array("a\nb\rc\td".utf8)) == "a?b?c?d")
        for byte in UInt8.min...UInt8.max where byte != 0 {
            let isPrintable = (0x20...0x7e).contains(byte)
            let expected = isPrintable ? String(UnicodeScalar(byte)) : "?"
            #expect(command([byte]) == expected, "byte \(byte)")
        }
        // UTF-8, whole and torn, is not ASCII either.
        #expect(command(Array("ü".utf8)) == "??")
        #expect(command([0xc3]) == "?")
        #expect(command(Array("\u{9B}31m".utf8)) == "??31m")
    }
}

struct TupleTests {
    @Test("A tuple's ends are not mixed up")
    func ends() {
        let tuple = FourTuple(makeTuple())
        #expect(tuple.local == Endpoint("192.0.2.1:40000"))
        #expect(tuple.remote == Endpoint("198.51.100.7:53"))
    }

    @Test("IPv6, and a local address that is not known")
    func v6() {
        var tuple = makeTuple()
        tuple.remote = (UInt32(0x2001_0db8).bigEndian, 0, 0, UInt32(7).bigEndian)
        tuple.local = (0, 0, 0, 0)
        #expect(FourTuple(tuple).description == "*:40000 -> [2001:db8::7]:53")
    }
}

struct MaintenanceTests {
    @Test("Each byte that a sweep writes is one element")
    func swept() {
        var swept = Swept()
        swept.add(
            [
                TG_SWEPT_NOTHING, TG_SWEPT_CLAIM, TG_SWEPT_CLAIM, TG_SWEPT_DROPPED, TG_SWEPT_RECORD,
                TG_SWEPT_OUTSIDER,
            ].map { UInt8($0.rawValue) })
        #expect(swept == Swept(claims: 3, dropped: 1, records: 1, outsiders: 1))
    }

    @Test("Each byte that seeding writes is one socket")
    func seeded() {
        var seeded = Seeded()
        seeded.add([])
        #expect(seeded == Seeded())
        let bytes = [
            TG_SEEDED_CLAIMED, TG_SEEDED_CLAIMED, TG_SEEDED_CLAIMED, TG_SEEDED_KNOWN,
            TG_SEEDED_KNOWN,
            TG_SEEDED_CONFLICT, TG_SEEDED_NO_ROOM, TG_SEEDED_NO_ROOM, TG_SEEDED_NO_ROOM,
            TG_SEEDED_NO_ROOM,
        ].map { UInt8($0.rawValue) }
        seeded.add(bytes)
        #expect(seeded.claimed == 3)
        #expect(seeded.known == 2)
        #expect(seeded.conflicts == 1)
        #expect(seeded.unclaimed == 4)
        seeded.add(bytes)
        #expect(seeded.claimed == 6)
    }
}
