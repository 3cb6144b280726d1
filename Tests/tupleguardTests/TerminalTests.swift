// SPDX-License-Identifier: Apache-2.0
// What people see: tables that fit, shortened text, times and amounts.

import Glibc
import Testing
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

@testable import TupleguardAgent
@testable import TupleguardKernel
@testable import tupleguard

struct TableTests {
    private func makeTable() -> Table {
        var table = Table(columns: [
            .init(title: "NAME"), .init(title: "N", alignment: .right),
            .init(title: "PATH", isFlexible: true),
        ])
        table.rows = [
            ["a", "1", "/system.slice/a.service"],
            ["longer", "1234", "/b"],
        ]
        return table
    }

    @Test(
        "Columns are as wide as their widest cell, two spaces apart, nothing at the end of a line")
    func unlimited() {
        #expect(
            makeTable().lines(width: nil) == [
                "NAME       N  PATH",
                "a          1  /system.slice/a.service",
                "longer  1234  /b",
            ])
    }

    @Test("A table without rows is its heading")
    func empty() {
        #expect(
            Table(columns: [.init(title: "A"), .init(title: "B")]).lines(width: 80) == ["A  B"])
    }

    @Test("A heading may be the widest of its column")
    func wideHeading() {
        var table = Table(columns: [.init(title: "WIDE", alignment: .right), .init(title: "B")])
        table.rows = [["1", "2"]]
        #expect(table.lines(width: nil) == ["WIDE  B", "   1  2"])
    }

    @Test("What fits is left alone", arguments: [37, 38, 80, 1000])
    func fits(width: Int) {
        #expect(makeTable().lines(width: width) == makeTable().lines(width: nil))
    }

    @Test("The flexible column gives way, as far as need be", arguments: [22, 23, 30, 36])
    func narrow(width: Int) {
        let lines = makeTable().lines(width: width)
        #expect(lines.map(\.count).max() == width)
        #expect(lines[0] == "NAME       N  PATH")
        #expect(lines[1].hasPrefix("a          1  /syste"))
        #expect(lines[1].hasSuffix("…"))
        #expect(lines[2] == "longer  1234  /b")
    }

    @Test("But not to nothing, and the others keep their width", arguments: [0, 1, 10, 21])
    func tooNarrow(width: Int) {
        #expect(
            makeTable().lines(width: width) == [
                "NAME       N  PATH",
                "a          1  /system…",
                "longer  1234  /b",
            ])
    }

    @Test("Of several flexible columns the widest gives way first")
    func severalFlexible() {
        var table = Table(columns: [
            .init(title: "A", isFlexible: true), .init(title: "B", isFlexible: true),
        ])
        table.rows = [[String(repeating: "a", count: 30), String(repeating: "b", count: 12)]]
        #expect(
            table.lines(width: 34)[1]
                == String(repeating: "a", count: 19) + "…  " + String(repeating: "b", count: 12))
        let narrow = table.lines(width: 22)[1]
        #expect(narrow.count == 22)
        #expect(narrow == "aaaaaaaaa…  bbbbbbbbb…")
    }

    @Test("A table that nothing in gives way stays as it is")
    func inflexible() {
        var table = Table(columns: [.init(title: "A"), .init(title: "B")])
        table.rows = [["aaaaaaaaaaaa", "bbbbbbbbbbbb"]]
        #expect(table.lines(width: 10) == table.lines(width: nil))
    }
}

struct FitTests {
    @Test(
        "Text is shortened to so many columns, and says so",
        arguments: [
            ("", 0, ""), ("", 5, ""), ("abc", 3, "abc"), ("abc", 4, "abc"), ("abcd", 3, "ab…"),
            ("abcd", 1, "…"), ("äöü\u{1F427}x", 4, "äöü…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ])
    func fit(text: String, width: Int, expected: String) {
        #expect(Terminal.fit(text, width) == expected)
        #expect(Terminal.fit(text, .max) == text)
    }
}

struct TimeTests {
    private var now: UInt64 { KernelClock.realTime }

    // From the middle of each step, so that the clock may go on while the test runs.
    @Test(
        "How long ago, in a unit that suits it",
        arguments: [
            (150, "2m"), (5400, "90m"), (7170, "119m"), (9000, "2h"), (131_400, "36h"),
            (171_000, "47h"), (216_000, "2d"), (34_603_200, "400d"),
        ] as [(UInt64, String)])
    func ages(seconds: UInt64, text: String) {
        #expect(age(now - seconds * 1_000_000_000) == text)
    }

    @Test("Seconds for the first two minutes")
    func seconds() throws {
        let text = age(now - 30_000_000_000)
        #expect(text.hasSuffix("s"))
        let count = try #require(Int(text.dropLast()))
        #expect((30..<120).contains(count))
    }

    @Test("What is still to come is not long ago")
    func future() {
        #expect(age(now + 1_000_000_000_000) == "0s")
        #expect(age(.max) == "0s")
    }

    @Test("1970 is some days ago")
    func epoch() throws {
        #expect(try #require(Int(age(0).dropLast())) > 20_000)
        #expect(age(0).hasSuffix("d"))
    }

    @Test("A clock shows local time, to the second")
    func localTime() throws {
        for nanoseconds in [0, 1_769_860_800_012_000_000, 1_720_000_000_999_999_999] as [UInt64] {
            let text = clock(nanoseconds)
            #expect(text.contains(#/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/#))
            let parts = try text.split(whereSeparator: { !$0.isNumber }).map {
                try #require(Int32($0))
            }
            try #require(parts.count == 6)
            var fields = tm()
            fields.tm_year = parts[0] - 1900
            fields.tm_mon = parts[1] - 1
            fields.tm_mday = parts[2]
            fields.tm_hour = parts[3]
            fields.tm_min = parts[4]
            fields.tm_sec = parts[5]
            fields.tm_isdst = -1
            #expect(mktime(&fields) == Int(nanoseconds / 1_000_000_000))
        }
    }

    @Test("Local is where TZ says")
    func timeZone() async {
        await #expect(processExitsWith: .success) {
            setenv("TZ", "UTC0", 1)
            tzset()
            #expect(clock(1_769_860_800_012_000_000) == "2026-01-31 12:00:00")
        }
        await #expect(processExitsWith: .success) {
            setenv("TZ", "XXX-5:30", 1)
            tzset()
            #expect(clock(1_769_860_800_012_000_000) == "2026-01-31 17:30:00")
        }
    }
}

struct EnvironmentTests {
    @Test("A variable that is empty counts as not set")
    func variables() async {
        await #expect(processExitsWith: .success) {
            setenv("TUPLEGUARD_TEST", "value", 1)
            #expect(environment("TUPLEGUARD_TEST") == "value")
            setenv("TUPLEGUARD_TEST", "", 1)
            #expect(environment("TUPLEGUARD_TEST") == nil)
            unsetenv("TUPLEGUARD_TEST")
            #expect(environment("TUPLEGUARD_TEST") == nil)
        }
    }
}

struct ConflictBlockTests {
    private func block(
        count: UInt64, reason: Reason = .held, allowed: Bool = false, holder: Bool = true
    ) -> [String] {
        var event = tg_event()
        event.time_ns = KernelClock.monotonic
        event.reason = reason.rawValue
        event.allowed = allowed ? 1 : 0
        event.tuple.local_port = 40_000
        event.tuple.remote_port = 53
        event.tuple.remote = (0, 0, UInt32(0xffff).bigEndian, UInt32(0xc633_6407).bigEndian)
        event.claimant.pid = 4711
        event.claimant.uid = 1000
        withUnsafeMutableBytes(of: &event.claimant.comm) {
            $0.copyBytes(from: Array("client".utf8))
        }
        if holder {
            event.holder.pid = 815
            withUnsafeMutableBytes(of: &event.holder.comm) {
                $0.copyBytes(from: Array("server".utf8))
            }
        }
        var lines: [String] = []
        let conflict = Conflict(
            count: count, first: 1_769_860_800_000_000_000, last: ConflictEvent(event)!)
        Conflicts.show(conflict, CgroupNames()) { lines.append($0) }
        return lines
    }

    @Test("Who was refused, who holds the tuple, how often, why")
    func refused() {
        let lines = block(count: 3)
        #expect(lines.count == 5)
        #expect(lines[0].contains("*:40000 -> 198.51.100.7:53"))
        #expect(
            lines[1].hasPrefix(
                "  refused   3 times, first \(clock(1_769_860_800_000_000_000)), last "))
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
        #expect(block(count: 1, reason: .outside, holder: false)[3] == "  holder    not known")
    }

    @Test("All lines of a block begin in the same columns")
    func alignment() {
        #expect(block(count: 1, allowed: true)[1].hasPrefix("  observed  once"))
        #expect(block(count: 1, reason: .existing)[1].hasPrefix("  found     once"))
    }
}

struct ChildTests {
    @Test("A command that does not exist, and one that cannot be run")
    func cannotRun() async {
        await #expect(processExitsWith: .success) {
            // As it comes, PATH may have folders that only root can look into.
            setenv("PATH", "/usr/bin:/bin", 1)
            let mask = sigset_t()
            #expect(throws: Errno(ENOENT)) {
                _ = try Child(["/that-is-not-there"], signalMask: mask)
            }
            #expect(throws: Errno(ENOENT)) {
                _ = try Child(["that-is-not-there"], signalMask: mask)
            }
            #expect(throws: Errno(EACCES)) { _ = try Child(["/"], signalMask: mask) }
            #expect(throws: Errno(EACCES)) { _ = try Child(["/dev/null"], signalMask: mask) }
        }
    }
}
