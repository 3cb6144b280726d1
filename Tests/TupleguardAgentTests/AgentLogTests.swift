// SPDX-License-Identifier: Apache-2.0
// The agent's log as it appears on stderr: each in a process of its own, whose stderr is read.

import Glibc
import Logging
import Testing
import TupleguardLinux
import TupleguardRecords

@testable import TupleguardAgent

private func lines(_ result: ExitTest.Result?) -> [String] {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        .split(separator: "\n").map(String.init)
}

private func makeLogger(_ format: LogFormat) -> Logger {
    Logger(label: "test") { _ in AgentLogHandler(format: format) }
}

struct AgentLogTests {
    @Test("Text: time, level, message, then what goes with it, in order")
    func text() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            var logger = makeLogger(.text)
            logger.debug("not shown")
            logger.info("ready", metadata: ["b": "2", "a": "1"])
            logger[metadataKey: "c"] = "3"
            logger.notice("still ready", metadata: ["c": "4"])
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
            let logger = makeLogger(.json)
            logger.error("cannot \"do\"\nthis", metadata: ["path": "/a"])
        }
        let line = try #require(lines(result).first { $0.hasPrefix("{") })
        #expect(
            line.hasPrefix(#"{"level":"error","message":"cannot \"do\"\nthis path=/a","time":""#))
        #expect(line.hasSuffix(#"Z"}"#))
    }
}

struct ConflictLogTests {
    @Test("Up to a number in a second each conflict has its line; then only their count is logged")
    func limit() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            var log = ConflictLog(logger: makeLogger(.text), format: .text)
            let event = makeEvent()
            // The same moment over and over: whoever follows still gets every one.
            let reports = (0..<250).map { _ in log.log(event, isFollowed: true) }
            #expect(reports.allSatisfy { $0?.hasPrefix(#"{"action":"refused""#) == true })
            log.flush()
            log.flush()
        }
        let lines = lines(result)
        let conflicts = lines.filter { $0.contains(" notice refused 192.0.2.1:40000 -> ") }
        #expect(conflicts.count == ConflictLog.linesPerSecond)
        #expect(lines.count { $0.contains(" more conflicts in that second") } == 1)
        #expect(
            lines.contains {
                $0.hasSuffix(" notice 150 more conflicts in that second, not logged one by one")
            })
    }

    @Test("The next second has lines of its own, after the count of the one before")
    func nextSecond() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            var log = ConflictLog(logger: makeLogger(.text), format: .text)
            let first = makeEvent(command: "first")
            let later = first.time.nanosecondsSince1970 + 2_000_000_000
            let second = makeEvent(
                command: "second", time: Timestamp(nanosecondsSince1970: later))
            for _ in 0..<101 { _ = log.log(first, isFollowed: false) }
            for _ in 0..<100 { _ = log.log(second, isFollowed: false) }
            log.flush()
        }
        let lines = lines(result)
        #expect(lines.count { $0.contains(" for first (pid 4711") } == 100)
        #expect(lines.count { $0.contains(" for second (pid 4711") } == 100)
        let count = try #require(
            lines.firstIndex { $0.contains(" 1 more conflicts in that second") })
        let next = try #require(lines.firstIndex { $0.contains(" for second (pid 4711") })
        #expect(count < next)
        #expect(lines.count { $0.contains(" more conflicts ") } == 1)
    }

    @Test("As JSON a line is the report itself")
    func json() async throws {
        let result = await #expect(
            processExitsWith: .success, observing: [\.standardErrorContent]
        ) {
            var log = ConflictLog(logger: makeLogger(.json), format: .json)
            let report = log.log(makeEvent(), isFollowed: false)
            #expect(report == nil)
            log.flush()
        }
        let objects = lines(result).filter { $0.hasPrefix("{") }
        #expect(objects.count == 1)
        let report = try #require(objects.first.flatMap { decodeJSON($0) as FollowedEvent? })
        #expect((report.event as? GuardEvent)?.claimant?.command == "client")
    }
}
