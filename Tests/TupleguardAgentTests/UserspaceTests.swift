// SPDX-License-Identifier: Apache-2.0
// What programs report: how it is remembered, and how it is told.

import ConnectxCore
import Glibc
import Logging
import Testing
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

@testable import TupleguardAgent

private let start: UInt64 = 1_769_860_800_012_000_000

struct UserspaceTableTests {
    @discardableResult
    private func record(
        _ table: inout UserspaceTable, _ report: Notice, uid: UInt32 = 1000,
        pid: UInt32 = 4711, time: UInt64 = start
    ) -> UserspaceEvent {
        table.record(report, from: makeProcess(pid: pid, uid: uid), time: time)
    }

    @Test("One entry for a tuple: how often, first, and the latest report")
    func entry() throws {
        var table = UserspaceTable()
        record(&table, makeReport(count: 3))
        record(&table, makeReport(count: 4), pid: 4712, time: start + 5)
        let entry = try #require(table.conflicts.first)
        #expect(table.conflicts.count == 1)
        #expect(entry.count == 7)
        #expect(entry.first == start)
        #expect(entry.last.time == start + 5)
        #expect(entry.last.process.sender.pid == 4712)
    }

    @Test("Kinds, transports and tuples have entries of their own; the newest is first")
    func apart() {
        var table = UserspaceTable()
        var tcp = makeReport()
        tcp.transport = .tcp
        let reports = [
            makeReport(), makeReport(.lostRace), makeReport(.exhausted, port: 0), tcp,
            makeReport(port: 40_001), makeReport(remotePort: 54),
        ]
        for (index, report) in reports.enumerated() {
            record(&table, report, time: start + UInt64(index))
        }
        #expect(table.conflicts.map(\.last.report) == reports.reversed())
    }

    @Test("What one user says changes nothing of what another said")
    func users() {
        var table = UserspaceTable()
        record(&table, makeReport(), uid: 1)
        record(&table, makeReport(count: 500), uid: 2, time: start + 1)
        #expect(table.conflicts.map(\.count) == [500, 1])
        #expect(table.conflicts.map(\.last.process.sender.uid) == [2, 1])
    }

    @Test("A report can say a million at most")
    func clamped() {
        var table = UserspaceTable()
        let event = record(&table, makeReport(count: .max))
        #expect(event.report.count == 1_000_000)
        #expect(table.conflicts.map(\.count) == [1_000_000])
        #expect(table.totals.conflict == 1_000_000)
    }

    @Test("Totals of each kind, of what was heard and of what was not")
    func totals() {
        var table = UserspaceTable()
        record(&table, makeReport(count: 2))
        record(&table, makeReport(.lostRace, count: 3))
        record(&table, makeReport(.exhausted, port: 0, count: 4))
        table.countInvalid()
        table.countLimited()
        table.countLimited()
        #expect(
            encodeJSON(table.totals)
                == #"{"conflict":2,"exhausted":4,"invalid":1,"limited":2,"lost_race":3,"reports":3}"#
        )
    }

    @Test("One user has a quarter of the room; then his own oldest makes way")
    func boundedForAUser() {
        var table = UserspaceTable()
        record(&table, makeReport(port: 1), uid: 1)
        for port in 1...3000 {
            record(&table, makeReport(port: UInt16(port)), uid: 2, time: start + UInt64(port))
        }
        let (others, ours) = (
            table.conflicts.filter { $0.last.process.sender.uid == 2 },
            table.conflicts.filter { $0.last.process.sender.uid == 1 }
        )
        #expect(ours.count == 1)
        #expect(others.count == UserspaceTable.limitOfUser)
        #expect(others.first?.last.report.tuple.local.port == 3000)
        #expect(others.last?.last.report.tuple.local.port == UInt16(3001 - others.count))
        #expect(table.totals.conflict == 3001)
    }

    @Test("However many users there are, so many entries are kept: the latest")
    func bounded() {
        var table = UserspaceTable()
        let count = UserspaceTable.limit + 500
        for index in 0..<count {
            record(&table, makeReport(), uid: UInt32(index), time: start + UInt64(index))
        }
        let uids = table.conflicts.map(\.last.process.sender.uid)
        #expect(uids == (500..<count).reversed().map { UInt32($0) })
    }

    @Test("What is reported again is not old")
    func renewed() {
        var table = UserspaceTable()
        for index in 0..<UserspaceTable.limit {
            record(&table, makeReport(), uid: UInt32(index), time: start + UInt64(index))
        }
        record(&table, makeReport(), uid: 0, time: start + 1_000_000)
        record(&table, makeReport(), uid: .max, time: start + 1_000_001)
        let uids = table.conflicts.map(\.last.process.sender.uid)
        #expect(uids.count == UserspaceTable.limit)
        #expect(uids.prefix(2) == [.max, 0])
        #expect(!uids.contains(1))
    }
}

struct SenderProcessTests {
    @Test("Of a process that runs: its name and its cgroup")
    func ourselves() {
        let us = Sender(pid: UInt32(getpid()), uid: getuid())
        let process = SenderProcess(reading: us, in: try? CgroupHierarchy())
        let comm = contents(of: "/proc/self/comm").map { String($0.dropLast()) }
        #expect(process.command == comm)
        let hierarchy = try? CgroupHierarchy()
        #expect(
            hierarchy?.path(of: process.cgroup) == hierarchy?.path(ofProcess: getpid())
                || hierarchy == nil)
    }

    @Test("Of another user's process with that number: nothing, and nothing of one that is gone")
    func strangers() {
        for sender in [
            Sender(pid: UInt32(getpid()), uid: 4_000_000_000), Sender(pid: 0, uid: getuid()),
            Sender(pid: 4_194_305, uid: getuid()), Sender(pid: .max, uid: getuid()),
        ] {
            let process = SenderProcess(reading: sender, in: try? CgroupHierarchy())
            #expect(process.command == nil)
            #expect(process.cgroup == 0)
        }
    }
}

struct UserspaceReportTests {
    private func makeEvent(
        _ report: Notice = makeReport(), command: String? = "client", cgroup: UInt64 = 0
    ) -> UserspaceEvent {
        UserspaceEvent(
            time: start, report: report,
            process: SenderProcess(
                Sender(pid: 4711, uid: 1000), command: command, cgroup: cgroup))
    }

    private func json(_ event: UserspaceEvent) -> String {
        encodeJSON(UserspaceEventReport(event, cgroups: CgroupNames()))
    }

    private static let complete =
        #"{"count":3,"local":"192.0.2.1:40000","reason":"lost-race","remote":"198.51.100.7:53","#
        + #""sender":{"cgroup":"/a.slice","cgroup_id":12,"command":"client","pid":4711,"uid":1000},"#
        + #""source":"userspace","time":"2026-01-31T12:00:00.012Z","transport":"udp"}"#

    @Test("The fields of a report are stable")
    func fields() {
        #expect(
            json(makeEvent(makeReport(count: 3), cgroup: missingCgroup))
                == #"{"count":3,"local":"192.0.2.1:40000","reason":"conflict","remote":"198.51.100.7:53","#
                + #""sender":{"cgroup_id":18446744073709551614,"command":"client","pid":4711,"uid":1000},"#
                + #""source":"userspace","time":"2026-01-31T12:00:00.012Z","transport":"udp"}"#)
    }

    @Test("A process that has gone has no name")
    func gone() throws {
        let text = json(makeEvent(command: nil))
        #expect(text.contains(#""sender":{"cgroup_id":0,"pid":4711,"uid":1000}"#))
        let report = try #require(UserspaceEventReport(json: text))
        #expect(report.sender.description == "a process that has gone (pid 4711, uid 1000)")
    }

    @Test("The fields of what the agent answers are stable")
    func summary() {
        let conflicts = UserspaceConflicts()
        _ = conflicts.record(makeReport(count: 3), from: makeProcess(), time: start)
        let text = encodeJSON(conflicts.summary(CgroupNames()))
        #expect(
            text
                == #"{"conflicts":[{"count":3,"first_time":"2026-01-31T12:00:00.012Z","last":"#
                + #"{"count":3,"local":"192.0.2.1:40000","reason":"conflict","remote":"198.51.100.7:53","#
                + #""sender":{"cgroup_id":0,"pid":4711,"uid":1000},"source":"userspace","#
                + #""time":"2026-01-31T12:00:00.012Z","transport":"udp"},"#
                + #""last_time":"2026-01-31T12:00:00.012Z","source":"userspace"}],"totals":"#
                + #"{"conflict":3,"exhausted":0,"invalid":0,"limited":0,"lost_race":0,"reports":1}}"#
        )
        let decoded: UserspaceSummary? = decodeJSON(text)
        #expect(decoded.map { encodeJSON($0) } == text)
    }

    @Test("Each source's lines are its own")
    func sources() throws {
        let report = try #require(UserspaceEventReport(json: Self.complete))
        #expect(encodeJSON(report) == Self.complete)
        #expect(ConflictEventReport(json: Self.complete) == nil)
        let kernel = encodeJSON(
            ConflictEventReport(TupleguardAgentTests.makeEvent(), cgroups: CgroupNames()))
        #expect(UserspaceEventReport(json: kernel) == nil)
        #expect(ConflictEventReport(json: kernel)?.source == .kernel)
        let pretender = Self.complete.replacing("userspace", with: "kernel")
        #expect(UserspaceEventReport(json: pretender) == nil)
    }

    @Test("Anything else is no report")
    func garbage() {
        for count in 0..<Self.complete.count {
            #expect(UserspaceEventReport(json: String(Self.complete.prefix(count))) == nil)
        }
    }

    @Test("One line for people, marked as what it is")
    func line() throws {
        #expect(
            try #require(UserspaceEventReport(json: Self.complete)).line
                == "userspace: 192.0.2.1:40000 -> 198.51.100.7:53 (udp), reported 3 times by "
                + "client (pid 4711, uid 1000) in /a.slice: "
                + "another socket took the tuple while the program was about to")
        let exhausted = UserspaceEventReport(
            makeEvent(makeReport(.exhausted, port: 0)), cgroups: CgroupNames())
        #expect(
            exhausted.line
                == "userspace: no port left for 198.51.100.7:53 (udp), reported by "
                + "client (pid 4711, uid 1000): no local port is free for this destination")
    }

    @Test("Nothing that a terminal would obey is in the line")
    func controlCharacters() throws {
        for field in ["client", "/a.slice", "lost-race", "udp", "192.0.2.1:40000"] {
            let json = Self.complete.replacing(field, with: #"\u001b[2J\n\u009b"#)
            let line = try #require(UserspaceEventReport(json: json)).line
            #expect(
                line.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value < 0x7f }, "\(field)")
        }
    }

    @Test("The log bounds their lines as it does the guard's")
    func log() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            var log = ConflictLog(
                logger: Logger(label: "test") { _ in AgentLogHandler(format: .text) },
                format: .text, noun: "userspace reports")
            let event = UserspaceEvent(time: start, report: makeReport(), process: makeProcess())
            for _ in 0..<150 { _ = log.log(event, isFollowed: false) }
            log.flush()
        }
        let lines = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            .split(separator: "\n")
        #expect(
            lines.count { $0.hasPrefix("2026-01-31T12:00:00.012Z notice userspace: 192.0.2.1:") }
                == ConflictLog.linesPerSecond)
        #expect(
            lines.contains {
                $0.hasSuffix(
                    " notice 50 more userspace reports in that second, not logged one by one")
            })
    }
}
