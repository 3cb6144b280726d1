// SPDX-License-Identifier: Apache-2.0
// What is read of processes, from a folder that looks like /proc.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

struct ProcTests {
    @Test("A process: its command, its users, its cgroup")
    func process() throws {
        let status = "Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t7\t7\t7\t7\n"
        try withTemporaryProc(files: [
            "7/comm": "a name\n", "7/status": status, "7/cgroup": "1:cpu:/x\n0::/y\n",
        ]) { proc in
            #expect(proc.command(of: 7) == "a name")
            #expect(proc.users(of: 7) == [1000, 1001, 1002, 1003])
            #expect(proc.cgroup(of: 7) == "/y")
            #expect(proc.user(of: 7) == getuid())
        }
    }

    @Test("Of a process that is not there nothing is known")
    func noProcess() throws {
        try withTemporaryProc(files: [:]) { proc in
            #expect(proc.command(of: 7) == nil)
            #expect(proc.users(of: 7) == [])
            #expect(proc.user(of: 7) == nil)
            #expect(proc.cgroup(of: 7) == nil)
            #expect(proc.processes == [])
        }
    }

    @Test("Processes are the folders with a number; without the first, others are hidden")
    func listing() throws {
        try withTemporaryProc(files: ["7/comm": "a", "42/comm": "b", "self/comm": "a"]) { proc in
            #expect(proc.processes.sorted() == [7, 42])
            #expect(proc.hidesProcesses)
        }
        try withTemporaryProc(files: ["1/comm": "init"]) { #expect(!$0.hidesProcesses) }
    }

    @Test("Settings are read without their line end, and written")
    func settings() throws {
        try withTemporaryProc(files: ["sys/a/b": "17\n", "sys/a/c": "two words\n"]) { proc in
            #expect(proc.setting("a/b") == "17")
            #expect(proc.numericSetting("a/b") == 17)
            #expect(proc.setting("a/c") == "two words")
            #expect(proc.numericSetting("a/c") == nil)
            #expect(proc.setting("a/d") == nil)
            try proc.set("a/b", to: "18")
            #expect(proc.numericSetting("a/b") == 18)
        }
    }
}
