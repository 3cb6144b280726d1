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

    private func status(_ path: String) throws -> stat {
        var status = stat()
        let result = stat(path, &status)
        try #require(result == 0)
        return status
    }

    /// Whoever has made a page that others may not read gets another such page.
    @Test(arguments: [0o600, 0o640, 0o444] as [mode_t])
    func permissionsAreKept(_ mode: mode_t) throws {
        try withTemporaryFolder { folder in
            let path = folder + "/page.html"
            try makeFile(path, "old")
            try #require(chmod(path, mode) == 0)
            try output(path).write("new")
            #expect(contents(of: path) == "new")
            #expect(try status(path).st_mode & 0o7777 == mode)
        }
    }

    @Test(.enabled(if: geteuid() == 0)) func theOwnerIsKept() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/page.html"
            try makeFile(path, "old")
            try #require(chown(path, 65_534, 65_533) == 0)
            try output(path).write("new")
            let status = try status(path)
            #expect(status.st_uid == 65_534)
            #expect(status.st_gid == 65_533)
        }
    }

    @Test func aNewFileIsAsTheMaskHasIt() throws {
        try withTemporaryFolder { folder in
            let other = open(folder + "/other", O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            try #require(other >= 0)
            close(other)
            try output(folder + "/page.html").write("new")
            #expect(
                try status(folder + "/page.html").st_mode == status(folder + "/other").st_mode)
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
