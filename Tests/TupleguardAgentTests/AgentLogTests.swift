// SPDX-License-Identifier: Apache-2.0
// The agent's log as it appears on stderr: each in a process of its own, whose stderr is read.

import Glibc
import Logging
import Testing
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent

private func lines(_ result: ExitTest.Result?) -> [String] {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        .split(separator: "\n").map(String.init)
}

private func makeLogger(_ log: AgentLog) -> Logger {
    Logger(label: "test") { _ in AgentLogHandler(log) }
}

struct AgentLogTests {
    @Test("Text: time, level, message, then what goes with it, in order")
    func text() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let log = AgentLog(.text)
            var logger = makeLogger(log)
            logger.debug("not shown")
            logger.info("ready", metadata: ["b": "2", "a": "1"])
            logger[metadataKey: "c"] = "3"
            logger.notice("still ready", metadata: ["c": "4"])
            log.close()
        }
        let time = #/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /#
        let lines = lines(result).filter { $0.contains(time) }
        #expect(
            lines.map { $0.replacing(time, with: "") } == [
                "info ready a=1 b=2", "notice still ready c=4",
            ])
    }

    @Test("JSON: an object for each line, whatever the message")
    func json() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let log = AgentLog(.json)
            makeLogger(log).error("cannot \"do\"\nthis", metadata: ["path": "/a"])
            log.close()
        }
        let line = try #require(lines(result).first { $0.hasPrefix("{") })
        #expect(
            line.hasPrefix(#"{"level":"error","message":"cannot \"do\"?this path=/a","time":""#))
        #expect(line.hasSuffix(#"Z"}"#))
    }
}

/// A pipe in the place of standard error.
private func withPipeAsStandardError(_ body: (Int32) throws -> Void) throws {
    var ends: [Int32] = [-1, -1]
    try Errno.check { pipe(&ends) }
    dup2(ends[1], STDERR_FILENO)
    close(ends[1])
    try body(ends[0])
}

/// Whether a pipe has no room left.
private func isFull(_ pipe: Int32) -> Bool {
    let getSize: Int32 = 1032  // F_GETPIPE_SZ, which the C library keeps to itself
    var count: Int32 = 0
    return ioctl(pipe, UInt(FIONREAD), &count) == 0 && count > fcntl(pipe, getSize) - 4096
}

struct SlowReaderTests {
    @Test("Nobody waits for who does not read; what is lost is counted, and said once he reads")
    func blocked() async {
        await #expect(processExitsWith: .success) {
            try withPipeAsStandardError { reader in
                let log = AgentLog(.text)
                // It waits in the middle of this one until somebody reads.
                log.write(LogEntry(message: String(repeating: "y", count: 200_000)))
                #expect(eventually { isFull(reader) })
                let line = String(repeating: "x", count: 4000)
                let count = 3 * AgentLog.room / line.utf8.count
                for number in 0..<count { log.write(LogEntry(message: "\(number) \(line)")) }
                #expect(log.linesLost > count / 2)
                log.close()  // and not for ever
                var text: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 65_536)
                while !String(decoding: text.suffix(200), as: UTF8.self).contains("keep up\n") {
                    let got = read(reader, &buffer, buffer.count)
                    try #require(got > 0)
                    text += buffer[..<got]
                }
                let lines = text.split(separator: UInt8(ascii: "\n"))
                    .map { String(decoding: $0, as: UTF8.self) }
                #expect(
                    lines.last?.hasSuffix(
                        " warning \(grouped(log.linesLost)) lines of this log lost: whoever reads it did not keep up"
                    ) == true)
                #expect(lines.count == 1 + count - Int(log.linesLost) + 1)
            }
        }
    }

    @Test("A standard error that is closed, or can only be read, is no fault")
    func closed() async {
        await #expect(processExitsWith: .success) {
            for flags in [O_RDONLY, nil] {
                close(STDERR_FILENO)
                if let flags { _ = open("/dev/null", flags) }
                let log = AgentLog(.text)
                for _ in 0..<100 { log.write(LogEntry(message: "x")) }
                log.close()
                #expect(log.linesLost == 0)
            }
        }
    }
}

struct JournalTests {
    @Test("An entry has the line, its priority, and what it is to be found by")
    func fields() throws {
        try withTemporaryFolder { folder in
            let socket = try DatagramCollector(boundTo: "\(folder)/socket")
            let log = AgentLog(.journal, journal: "\(folder)/socket")
            makeLogger(log).error("cannot do this")
            var event = makeEvent()
            event.claimant?.cgroup = "/system.slice/web1.service"
            event.holder?.cgroup = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"
            var conflicts = ConflictLog(to: log)
            _ = conflicts.log(event, isFollowed: false)
            log.close()
            let entries = socket.end()
            #expect(
                entries.first
                    == "MESSAGE=cannot do this\nPRIORITY=3\nSYSLOG_IDENTIFIER=tupleguard\n")
            let fields = Set((entries.last ?? "").split(separator: "\n").map(String.init))
            #expect(
                fields.isSuperset(of: [
                    "MESSAGE=\(event.line)", "PRIORITY=5", "SYSLOG_IDENTIFIER=tupleguard",
                    "TUPLEGUARD_SOURCE=guard", "TUPLEGUARD_ACTION=refused",
                    "TUPLEGUARD_REASON=held", "TUPLEGUARD_LOCAL=192.0.2.1:40000",
                    "TUPLEGUARD_REMOTE=198.51.100.7:53", "TUPLEGUARD_CLAIMANT_PID=4711",
                    "TUPLEGUARD_CLAIMANT_UID=1000", "TUPLEGUARD_CLAIMANT_COMMAND=client",
                    "TUPLEGUARD_CLAIMANT_UNIT=web1.service", "TUPLEGUARD_HOLDER_PID=815",
                    "TUPLEGUARD_HOLDER_UNIT=user@1000.service",
                    "OBJECT_SYSTEMD_UNIT=web1.service", "OBJECT_SYSTEMD_UNIT=user@1000.service",
                ]), "\(fields)")
        }
    }

    @Test("A name cannot forge a field")
    func forged() throws {
        try withTemporaryFolder { folder in
            let socket = try DatagramCollector(boundTo: "\(folder)/socket")
            let log = AgentLog(.journal, journal: "\(folder)/socket")
            var event = makeEvent()
            event.claimant?.cgroup = "/a\nTUPLEGUARD_HOLDER_UNIT=b.service\nx/c.service"
            var conflicts = ConflictLog(to: log)
            _ = conflicts.log(event, isFollowed: false)
            log.close()
            let lines = socket.end().flatMap { $0.split(separator: "\n") }
            #expect(!lines.isEmpty)
            #expect(!lines.contains { $0.hasPrefix("TUPLEGUARD_HOLDER_UNIT=") })
        }
        #expect(
            JournalField("A", "x\ny").bytes
                == Array("A\n".utf8) + [3, 0, 0, 0, 0, 0, 0, 0] + Array("x\ny\n".utf8))
    }

    @Test("Where no journal listens lines go to standard error, with their priority")
    func missing() async {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let log = AgentLog(.journal, journal: "/nonexistent/socket")
            makeLogger(log).warning("this")
            log.close()
        }
        #expect(lines(result).contains("<4>this"))
    }
}

struct ConflictLogTests {
    /// The lines that `body` has made, without their time.
    private static func lines(_ body: (inout ConflictLog, SetClock) -> Void) throws -> [String] {
        try withTemporaryFolder { folder in
            let socket = try DatagramCollector(boundTo: "\(folder)/socket")
            let log = AgentLog(.journal, journal: "\(folder)/socket")
            let clock = SetClock()
            var conflicts = ConflictLog(to: log, clock: clock.reading)
            body(&conflicts, clock)
            log.close()
            return socket.end().map {
                String($0.prefix { $0 != "\n" }.dropFirst("MESSAGE=".count))
            }
        }
    }

    @Test("What happens again is counted, and said as long as it goes on")
    func repetitions() throws {
        let lines = try Self.lines { log, clock in
            let event = makeEvent()
            for _ in 0..<250 { #expect(log.log(event, isFollowed: true) != nil) }
            clock.pass(seconds: 11)
            _ = log.log(event, isFollowed: false)
            #expect(log.hasMore)
            clock.pass(seconds: 10)
            log.flush()
            clock.pass(seconds: 10)
            log.flush()
            #expect(!log.hasMore)
            _ = log.log(event, isFollowed: false)
        }
        let line = makeEvent().line
        #expect(lines == [line, "250 more times in 11s: \(line)", line])
    }

    @Test("What has not been said by then is said at the end")
    func last() throws {
        let lines = try Self.lines { log, clock in
            for _ in 0..<2 { _ = log.log(makeEvent(), isFollowed: false) }
            log.flush(isLast: true)
            #expect(!log.hasMore)
        }
        #expect(lines == [makeEvent().line, "once more in 1s: \(makeEvent().line)"])
    }

    @Test("A flood of ever other tuples is bounded, and others have their lines all the same")
    func flood() throws {
        let lines = try Self.lines { log, clock in
            for second in 0..<3 {
                for number in 0..<5000 {
                    let port = UInt16(second * 5000 + number + 1)
                    _ = log.log(makeEvent(command: "flood", port: port), isFollowed: false)
                }
                // Another cgroup of the same user, and another user in the same cgroup.
                let port = UInt16(60_000 + second)
                _ = log.log(makeEvent(command: "a", port: port, cgroup: 5), isFollowed: false)
                _ = log.log(makeEvent(command: "b", port: port, uid: 7), isFollowed: false)
                clock.pass(seconds: 1)
            }
            log.flush()
        }
        let flood = lines.count { $0.contains(" for flood ") }
        #expect(flood == Int(ConflictLog.rates.party.burst + 2 * ConflictLog.rates.party.perSecond))
        #expect(lines.count { $0.contains(" for a ") } == 3)
        #expect(lines.count { $0.contains(" for b ") } == 3)
        let counts = lines.filter { $0.hasSuffix("not logged one by one") }
        #expect(counts.count == 3)
        #expect(
            counts.first
                == "4,950 more conflicts of uid 1000 in cgroup \(missingCgroup), which is gone, not logged one by one"
        )
    }

    @Test("A user who has many cgroups gets no more than a user may")
    func manyCgroups() throws {
        let lines = try Self.lines { log, clock in
            for number in 0..<5000 {
                let event = makeEvent(
                    command: "flood", port: UInt16(number + 1), cgroup: UInt64(number + 1))
                _ = log.log(event, isFollowed: false)
            }
            _ = log.log(makeEvent(command: "other", uid: 7), isFollowed: false)
            log.flush()
        }
        #expect(lines.count { $0.contains(" for flood ") } == Int(ConflictLog.rates.user.burst))
        #expect(lines.count { $0.contains(" for other ") } == 1)
        let others = 5000 - Int(ConflictLog.rates.user.burst) - ConflictLog.partyLimit
        #expect(
            lines.contains("\(grouped(others)) more conflicts of others, not logged one by one"))
    }

    @Test("As JSON a line is the report itself")
    func json() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            let log = AgentLog(.json)
            var conflicts = ConflictLog(to: log)
            let report = conflicts.log(makeEvent(), isFollowed: false)
            #expect(report == nil)
            log.close()
        }
        let objects = TupleguardAgentTests.lines(result).filter { $0.hasPrefix("{") }
        #expect(objects.count == 1)
        let report = try #require(objects.first.flatMap { decodeJSON($0) as FollowedEvent? })
        #expect((report.event as? GuardEvent)?.claimant?.command == "client")
    }
}
