// SPDX-License-Identifier: Apache-2.0
// Names that others chose, on a terminal and in a shell; numbers for people.

import Glibc
import Testing
import TupleguardLinux

struct TextTests {
    @Test(
        "A name is one word for a shell, whatever is in it",
        arguments: [
            "/system.slice/a@b:1.service", "", "/a b", "/a;touch x", "/$(x)`y`", "/it's", "''",
            "/ä*?", "-n",
        ])
    func words(name: String) throws {
        let shell = try #require(popen("printf %s. \(shellWord(name))", "r"))
        var output = [UInt8](repeating: 0, count: 100)
        let length = fread(&output, 1, output.count, shell)
        #expect(pclose(shell) == 0)
        #expect(String(decoding: output.prefix(length), as: UTF8.self) == name + ".")
        #expect(shellWord("/system.slice") == "/system.slice")
        #expect(!shellWord("/a\u{1B}").contains("\u{1B}"))
    }

    @Test("Control characters become question marks, everything else stays")
    func shown() {
        #expect(printable("a\u{1B}[31mb\tc\u{7F}\u{9B}d") == "a?[31mb?c??d")
        #expect(printable("ünïcode 🐧 ~") == "ünïcode 🐧 ~")
    }

    @Test func numbersAreGrouped() {
        #expect(grouped(0) == "0")
        #expect(grouped(999) == "999")
        #expect(grouped(28_232) == "28,232")
        #expect(grouped(-1_234_567) == "-1,234,567")
        #expect(amount(1, "process") == "1 process")
        #expect(amount(2000, "process") == "2,000 processes")
        #expect(amount(2, "socket") == "2 sockets")
        #expect(rateText(30) == "+30/s")
        #expect(rateText(-2) == "-2/s")
        #expect(rateText(0.2) == nil)
        #expect(rateText(nil) == nil)
    }

    @Test func percentagesAreFullOnlyWhenTheyAre() {
        #expect(percent(0.999) == "99%")
        #expect(percent(1) == "100%")
        #expect(percent(0.004) == "0%")
    }
}
