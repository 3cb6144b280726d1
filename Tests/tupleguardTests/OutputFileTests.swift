// SPDX-License-Identifier: Apache-2.0
// Files are written whole or not at all, and nothing but files is written over.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import tupleguard

@Suite struct OutputFileTests {
    private func output(_ path: String) throws -> OutputFile {
        try #require(OutputFile(argument: path))
    }

    /// What is said of a path that is refused before anything is done.
    private func refusal(_ path: String) throws -> String {
        do {
            try output(path).check()
            return ""
        } catch {
            return "\(error)"
        }
    }

    @Test func aFileIsWrittenAndReplaced() throws {
        try withTemporaryFolder { folder in
            let file = try output(folder + "/page.html")
            try file.check()
            #expect(names(in: folder).isEmpty)
            try file.write("one")
            try file.write("two")
            #expect(contents(of: folder + "/page.html") == "two")
            #expect(names(in: folder) == ["page.html"])
        }
    }

    @Test func whatALinkLeadsToIsReplaced() throws {
        try withTemporaryFolder { folder in
            try makeFile(folder + "/page.html", "old")
            try #require(symlink("page.html", folder + "/link") == 0)
            try output(folder + "/link").write("new")
            #expect(contents(of: folder + "/page.html") == "new")
            #expect(Set(names(in: folder)) == ["page.html", "link"])
        }
    }

    /// It would be replaced by a file, and be gone.
    @Test func aDeviceIsLeftAlone() throws {
        #expect(try refusal("/dev/null").contains("no ordinary file"))
        try withTemporaryFolder { folder in
            try #require(mkfifo(folder + "/pipe", 0o600) == 0)
            #expect(try refusal(folder + "/pipe").contains("redirect"))
        }
    }

    @Test func nonsenseIsRefusedWithARemedy() throws {
        #expect(OutputFile(argument: "") == nil)
        try withTemporaryFolder { folder in
            #expect(try refusal(folder).contains("it is a folder; name a file in it"))
            #expect(try refusal(folder + "/").contains("it is a folder"))
            let missing = try refusal(folder + "/none/page.html")
            #expect(missing.contains("\(folder)/none/page.html"))
            #expect(missing.contains("there is no such folder: make it"))
            try makeFile(folder + "/file")
            #expect(try refusal(folder + "/file/page.html").contains("ENOTDIR"))
        }
    }

    /// The old page stays when the new one cannot be moved into its place.
    @Test func aFailureLeavesNothingBehind() throws {
        try withTemporaryFolder { folder in
            let file = try output(folder + "/page.html")
            try #require(mkdir(folder + "/page.html", 0o700) == 0)
            #expect(throws: OutputFile.Refusal.self) { try file.write("new") }
            #expect(names(in: folder) == ["page.html"])
        }
    }

    @Test func aDashIsStandardOutput() throws {
        let file = try output("-")
        #expect(file.isStandardOutput)
        try file.check()
    }
}
