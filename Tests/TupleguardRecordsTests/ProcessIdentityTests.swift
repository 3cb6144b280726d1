// SPDX-License-Identifier: Apache-2.0
// Processes by name and number, and names that nobody vouches for.

import Glibc
import Testing
import TupleguardLinux

@testable import TupleguardRecords

struct ProcessIdentityTests {
    @Test("Name, numbers, cgroup: as far as they are known")
    func description() {
        let all = ProcessIdentity(pid: 4711, uid: 1000, command: "curl", cgroup: "/user.slice")
        #expect("\(all)" == "curl (pid 4711, uid 1000) in /user.slice")
        #expect(all.nameAndNumbers == "curl (pid 4711, uid 1000)")
        #expect(
            "\(ProcessIdentity(pid: 4711, uid: 1000, command: nil))"
                == "a process that has gone (pid 4711, uid 1000)")
        #expect(
            "\(ProcessIdentity(pid: 0, uid: 1000, command: nil, cgroup: "/c"))"
                == "a process that is not known (uid 1000) in /c")
    }

    @Test("A process that runs")
    func running() throws {
        let us = try #require(ProcessIdentity(pid: getpid()))
        #expect(us.pid == getpid())
        #expect(us.uid == geteuid())
        #expect(us.command == contents(of: "/proc/self/comm").map { String($0.dropLast()) })
    }

    @Test("A process that does not exist", arguments: [0, -1, 4_194_305, .max] as [Int32])
    func none(pid: Int32) {
        #expect(ProcessIdentity(pid: pid) == nil)
    }

    @Test("The path of a cgroup is looked up by its id, once")
    func namingCgroup() {
        let nameless = ProcessIdentity(pid: 1, uid: 0, command: "a", cgroupId: 7)
        #expect(nameless.namingCgroup { "/\($0)" }.cgroup == "/7")
        #expect(nameless.namingCgroup { _ in nil }.cgroup == nil)
        let named = nameless.namingCgroup { "/\($0)" }
        #expect(named.namingCgroup { _ in "/another" }.cgroup == "/7")
        let elsewhere = ProcessIdentity(pid: 1, uid: 0, command: "a")
        #expect(elsewhere.namingCgroup { "/\($0)" }.cgroup == nil)
    }

    @Test(
        "Nothing in a name that a terminal would obey",
        arguments: [
            (Array("client".utf8), "client"),
            (Array("a\u{1B}[2Jb".utf8), "a?[2Jb"),
            ([0x41, 0x00, 0x42], "A"),
            ([0x7f, 0x80, 0x9b, 0xff, 0x0a], "?????"),
            (Array("ü".utf8), "??"),
            ([], ""),
        ] as [([UInt8], String)])
    func names(bytes: [UInt8], name: String) {
        #expect(bytes.withUnsafeBytes { commandName($0) } == name)
    }

    @Test("Nor in a cgroup's, which whoever has one delegated names")
    func cgroupName() {
        let process = ProcessIdentity(pid: 1, uid: 2, command: "a", cgroup: "/\u{1B}[2J\n\u{9b}")
        #expect("\(process)" == "a (pid 1, uid 2) in /?[2J??")
    }
}
