// SPDX-License-Identifier: Apache-2.0
// One agent at a time.

import Glibc
import Testing
import TupleguardAgentClient
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent

struct AgentLockTests {
    @Test("Where things are")
    func paths() {
        #expect(RunFolder().path == "/run/tupleguard")
        #expect(RunFolder(path: "/run/x").socket == "/run/x/agent.sock")
        #expect(RunFolder(path: "/run/x").lock == "/run/x/agent.lock")
        #expect(RunFolder(path: "/run/x").noticeSocket == "/run/x/report.sock")
    }

    @Test("While one has the lock another does not get it, and is told whose it is")
    func exclusive() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            let lock = try AgentLock(run)
            let error = AgentError.alreadyRunning(lock: "\(folder)/agent.lock", pid: getpid())
            #expect(throws: error) { _ = try AgentLock(run) }
            #expect(run.agent == getpid())
            _ = lock
        }
    }

    @Test("The lock ends with its owner, and can be had again")
    func released() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            for _ in 0..<3 {
                do {
                    let lock = try AgentLock(run)
                    #expect(run.agent == getpid())
                    _ = lock
                }
                #expect(run.agent == nil)
            }
        }
    }

    @Test("A failed attempt takes nothing from the one who has it")
    func failedAttempt() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            let lock = try AgentLock(run)
            for _ in 0..<2 {
                #expect(throws: AgentError.self) { _ = try AgentLock(run) }
            }
            #expect(contents(of: run.lock) == "\(getpid())\n")
            #expect(run.agent == getpid())
            _ = lock
        }
    }

    @Test("Nobody has a lock that was never taken, nor is a folder made to look for it")
    func noAgent() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: "\(folder)/run")
            #expect(run.agent == nil)
            #expect(access(run.path, F_OK) != 0)
        }
    }

    @Test("The folder is made for root; others may enter it and no more, and the lock stays closed")
    func folder() throws {
        try withTemporaryFolder { parent in
            let run = RunFolder(path: "\(parent)/run")
            #expect(!run.isEnterable)
            let lock = try AgentLock(run)
            var status = stat()
            try #require(stat(run.path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o751)
            #expect(run.isEnterable)
            try #require(stat(run.lock, &status) == 0)
            #expect(status.st_mode & 0o007 == 0)
            _ = lock
        }
    }

    @Test("A folder that is there keeps its mode, and shows whether others may enter")
    func existingFolder() throws {
        try withTemporaryFolder { parent in
            let run = RunFolder(path: "\(parent)/run")
            try Errno.check { mkdir(run.path, 0o750) }
            let lock = try AgentLock(run)
            #expect(!run.isEnterable)
            _ = lock
        }
    }

    @Test("Where others could put something in the place of what is ours nothing is made")
    func othersPlace() throws {
        try withTemporaryFolder { parent in
            try Errno.check { mkdir("\(parent)/shared", 0o700) }
            chmod("\(parent)/shared", 0o770)
            try Errno.check { symlink(parent, "\(parent)/link") }
            try makeFile("\(parent)/file")
            for name in ["shared", "link", "file"] {
                let run = RunFolder(path: "\(parent)/\(name)")
                #expect(throws: AgentError.self, "\(name)") { _ = try AgentLock(run) }
            }
            #expect(names(in: "\(parent)/shared") == [])
            #expect(access("\(parent)/agent.lock", F_OK) != 0)
        }
    }

    @Test("A lock that is a link, or no file, is not opened", arguments: [true, false])
    func othersLock(_ isLink: Bool) throws {
        try withTemporaryFolder { parent in
            let run = RunFolder(path: "\(parent)/run")
            try Errno.check { mkdir(run.path, 0o750) }
            if isLink {
                try Errno.check { symlink("\(parent)/target", run.lock) }
            } else {
                try Errno.check { mkfifo(run.lock, 0o600) }
            }
            #expect(throws: AgentError.self) { _ = try AgentLock(run) }
            #expect(access("\(parent)/target", F_OK) != 0)
            #expect(run.agent == nil)
        }
    }

    @Test("What an agent that was killed left in the file is written over")
    func leftOver() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            let raw = try Errno.check { open(run.lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600) }
            do {
                let file = OwnedDescriptor(taking: raw)
                _ = write(file.raw, "12345678901234567890\n", 21)
            }
            #expect(run.agent == nil)
            let lock = try AgentLock(run)
            #expect(contents(of: run.lock) == "\(getpid())\n")
            _ = lock
        }
    }

    @Test("A lock without a readable number is still somebody's")
    func unreadable() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            for text in ["", "\n", "nonsense", "99999999999999999999"] {
                unlink(run.lock)
                let raw = try Errno.check { open(run.lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600) }
                let file = OwnedDescriptor(taking: raw)
                _ = write(raw, text, text.utf8.count)
                try #require(flock(raw, LOCK_EX | LOCK_NB) == 0)
                #expect(run.agent == 0, "\(text)")
                _ = file
            }
        }
    }

    @Test("A folder that cannot be made is named")
    func noFolder() throws {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: "\(folder)/missing/run")
            let error = AgentError.failed(
                what: "make the folder \(run.path)", errno: Errno(ENOENT), detail: "")
            #expect(throws: error) { _ = try AgentLock(run) }
        }
    }
}
