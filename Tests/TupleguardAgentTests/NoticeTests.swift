// SPDX-License-Identifier: Apache-2.0
// What programs give notice of: how it is remembered, and how it is told.

import ConnectxCore
import Glibc
import Logging
import Testing
import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

@testable import TupleguardAgent

private let start = Timestamp("2026-01-31T12:00:00.012Z")!

/// Nanoseconds after the start.
private func + (time: Timestamp, nanoseconds: UInt64) -> Timestamp {
    Timestamp(nanosecondsSince1970: time.nanosecondsSince1970 + nanoseconds)
}

struct NoticeTableTests {
    @discardableResult
    private func record(
        _ table: inout NoticeTable, _ notice: Notice, uid: UInt32 = 1000,
        pid: Int32 = 4711, time: Timestamp = start
    ) -> ConnectxEvent {
        table.record(notice, from: makeSender(pid: pid, uid: uid), time: time)
    }

    @Test("One entry for a tuple: how often, first, and the latest notice")
    func entry() throws {
        var table = NoticeTable()
        record(&table, makeNotice(count: 3))
        record(&table, makeNotice(count: 4), pid: 4712, time: start + 5)
        let entry = try #require(table.conflicts.first)
        #expect(table.conflicts.count == 1)
        #expect(entry.count == 7)
        #expect(entry.first == start)
        #expect(entry.last.time == start + 5)
        #expect(entry.last.sender.pid == 4712)
    }

    @Test("Kinds, transports and tuples have entries of their own; the newest is first")
    func apart() {
        var table = NoticeTable()
        var tcp = makeNotice()
        tcp.transport = .tcp
        let notices = [
            makeNotice(), makeNotice(.lostRace), makeNotice(.exhausted, port: 0), tcp,
            makeNotice(port: 40_001), makeNotice(remotePort: 54),
        ]
        for (index, notice) in notices.enumerated() {
            record(&table, notice, time: start + UInt64(index))
        }
        #expect(table.conflicts.map(\.last.notice) == notices.reversed())
    }

    @Test("What one user says changes nothing of what another said")
    func users() {
        var table = NoticeTable()
        record(&table, makeNotice(), uid: 1)
        record(&table, makeNotice(count: 500), uid: 2, time: start + 1)
        #expect(table.conflicts.map(\.count) == [500, 1])
        #expect(table.conflicts.map(\.last.sender.uid) == [2, 1])
    }

    @Test("A notice can say a million at most")
    func clamped() {
        var table = NoticeTable()
        let event = record(&table, makeNotice(count: .max))
        #expect(event.notice.count == 1_000_000)
        #expect(table.conflicts.map(\.count) == [1_000_000])
        #expect(table.totals.conflict == 1_000_000)
    }

    @Test("Totals of each kind, of what was heard and of what was not")
    func totals() {
        var table = NoticeTable()
        record(&table, makeNotice(count: 2))
        record(&table, makeNotice(.lostRace, count: 3))
        record(&table, makeNotice(.exhausted, port: 0, count: 4))
        var tcp = makeNotice(.exhausted, port: 0, count: 5)
        tcp.transport = .tcp
        record(&table, tcp)
        table.countInvalid()
        table.countLimited()
        table.countLimited()
        #expect(
            encodeJSON(table.totals)
                == #"{"conflict":2,"exhausted":9,"exhausted_tcp":5,"invalid":1,"limited":2,"lost_race":3,"notices":4}"#
        )
    }

    @Test("Of a user whose last entry made way nothing is kept")
    func forgotten() {
        var table = NoticeTable()
        for uid in 1...UInt32(NoticeTable.limit) + 3 {
            record(&table, makeNotice(), uid: uid, time: start + UInt64(uid))
        }
        #expect(table.conflicts.count == NoticeTable.limit)
        #expect(table.ofUser.count == NoticeTable.limit)
        #expect(table.ofUser[3] == nil && table.ofUser[4] == 1)
    }

    @Test("One user has a quarter of the room; then his own oldest makes way")
    func boundedForAUser() {
        var table = NoticeTable()
        record(&table, makeNotice(port: 1), uid: 1)
        for port in 1...3000 {
            record(&table, makeNotice(port: UInt16(port)), uid: 2, time: start + UInt64(port))
        }
        let (others, ours) = (
            table.conflicts.filter { $0.last.sender.uid == 2 },
            table.conflicts.filter { $0.last.sender.uid == 1 }
        )
        #expect(ours.count == 1)
        #expect(others.count == NoticeTable.limitOfUser)
        #expect(others.first?.last.notice.tuple.local.port == 3000)
        #expect(others.last?.last.notice.tuple.local.port == UInt16(3001 - others.count))
        #expect(table.totals.conflict == 3001)
    }

    @Test("However many users there are, so many entries are kept: the latest")
    func bounded() {
        var table = NoticeTable()
        let count = NoticeTable.limit + 500
        for index in 0..<count {
            record(&table, makeNotice(), uid: UInt32(index), time: start + UInt64(index))
        }
        let uids = table.conflicts.map(\.last.sender.uid)
        #expect(uids == (500..<count).reversed().map { UInt32($0) })
    }

    @Test("What is reported again is not old")
    func renewed() {
        var table = NoticeTable()
        for index in 0..<NoticeTable.limit {
            record(&table, makeNotice(), uid: UInt32(index), time: start + UInt64(index))
        }
        record(&table, makeNotice(), uid: 0, time: start + 1_000_000)
        record(&table, makeNotice(), uid: .max, time: start + 1_000_001)
        let uids = table.conflicts.map(\.last.sender.uid)
        #expect(uids.count == NoticeTable.limit)
        #expect(uids.prefix(2) == [.max, 0])
        #expect(!uids.contains(1))
    }
}

struct SenderTests {
    @Test("Of a process that runs: its name and its cgroup")
    func ourselves() {
        let hierarchy = try? CgroupHierarchy()
        let process = ProcessIdentity(Sender(pid: getpid(), uid: getuid()), in: hierarchy)
        let comm = contents(of: "/proc/self/comm").map { String($0.dropLast()) }
        #expect(process.command == comm)
        let path = process.cgroupId.flatMap { hierarchy?.path(of: $0) }
        #expect(path == hierarchy?.path(ofProcess: getpid()) || hierarchy == nil)
    }

    @Test("Of another user's process with that number: nothing, and nothing of one that is gone")
    func strangers() {
        for sender in [
            Sender(pid: getpid(), uid: 4_000_000_000), Sender(pid: 0, uid: getuid()),
            Sender(pid: 4_194_305, uid: getuid()), Sender(pid: -1, uid: getuid()),
        ] {
            let process = ProcessIdentity(sender, in: try? CgroupHierarchy())
            #expect(process.command == nil)
            #expect(process.cgroupId == 0)
        }
    }
}

struct FindingsTests {
    @Test("The fields of what the agent answers are stable, and are read back")
    func findings() {
        let notices = Notices()
        _ = notices.record(makeNotice(count: 3), from: makeSender(), time: start)
        let findings = AgentFindings(
            totals: notices.totals, conflicts: notices.conflicts(CgroupNames()), scan: nil)
        let text = encodeJSON(findings)
        #expect(
            text
                == #"{"conflicts":[{"count":3,"first_time":"2026-01-31T12:00:00.012Z","last":"#
                + #"{"count":3,"local":"192.0.2.1:40000","reason":"conflict","remote":"198.51.100.7:53","#
                + #""sender":{"cgroup_id":0,"pid":4711,"uid":1000},"source":"connectx","#
                + #""time":"2026-01-31T12:00:00.012Z","transport":"udp"},"#
                + #""last_time":"2026-01-31T12:00:00.012Z","source":"connectx"}],"totals":"#
                + #"{"conflict":3,"exhausted":0,"exhausted_tcp":0,"invalid":0,"limited":0,"lost_race":0,"notices":1}}"#
        )
        let decoded: AgentFindings? = decodeJSON(text)
        #expect(decoded.map { encodeJSON($0) } == text)
    }

    @Test("The summary is the same totals, and nothing that grows")
    func summary() {
        let (notices, scans) = (Notices(), Scans())
        for port in UInt16(1)...100 {
            _ = notices.record(makeNotice(port: port), from: makeSender(), time: start)
        }
        let summary = AgentSummary(totals: notices.totals, scan: scans.totals)
        #expect(
            encodeJSON(summary)
                == #"{"scan":{"found":0,"present":0,"scans":0},"totals":"#
                + #"{"conflict":100,"exhausted":0,"exhausted_tcp":0,"invalid":0,"limited":0,"lost_race":0,"notices":100}}"#
        )
    }

    @Test("A sender's cgroup is named when it is told")
    func cgroup() {
        let notices = Notices()
        _ = notices.record(makeNotice(), from: makeSender(cgroup: missingCgroup), time: start)
        let conflict = notices.conflicts(CgroupNames())[0]
        #expect(conflict.last.sender.cgroup == nil)
        #expect(conflict.last.sender.cgroupId == missingCgroup)
    }

    @Test("The log bounds their lines as it does the guard's")
    func log() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let destination = AgentLog(.text)
            // In no time, so that no allowance comes back meanwhile.
            let now = KernelClock.monotonic
            var log = ConflictLog(to: destination, noun: "notices of connectx") { now }
            for number in 0..<150 {
                let event = ConnectxEvent(
                    time: start, notice: makeNotice(port: UInt16(number + 1)),
                    sender: makeSender())
                _ = log.log(event, isFollowed: false)
            }
            log.flush()
            destination.close()
        }
        let lines = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            .split(separator: "\n")
        #expect(
            lines.count { $0.hasPrefix("2026-01-31T12:00:00.012Z notice connectx: 192.0.2.1:") }
                == Int(ConflictLog.rates.party.burst))
        #expect(
            lines.contains {
                $0.contains(" notice 100 more notices of connectx of uid ")
                    && $0.hasSuffix(", not logged one by one")
            })
    }
}
