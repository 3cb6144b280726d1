// SPDX-License-Identifier: Apache-2.0
// What people see: tables that fit, shortened text.

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
