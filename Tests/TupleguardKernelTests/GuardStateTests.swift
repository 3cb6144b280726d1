// SPDX-License-Identifier: Apache-2.0
// The folder of the pinned state, as far as it can be told without BPF.

import Glibc
import Synchronization
import Testing
import TupleguardABI
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

struct GuardStateTests {
    @Test("Where things are")
    func paths() {
        let state = GuardState(folder: "/sys/fs/bpf/x")
        #expect(GuardState().folder == "/sys/fs/bpf/tupleguard")
        #expect(state.mapsFolder == "/sys/fs/bpf/x/maps")
        #expect(state.map(.groups) == "/sys/fs/bpf/x/maps/groups")
        #expect(state.attachmentFolder(4711) == "/sys/fs/bpf/x/cgroup-4711")
        #expect(state.attachmentFolder(.max) == "/sys/fs/bpf/x/cgroup-18446744073709551615")
    }

    @Test("How full it is: the fullest map, as a share of what everybody may use")
    func filling() {
        #expect(tg_usage().filling == 0)
        var usage = tg_usage(tableSize: 1000)
        #expect(usage.filling == 0)
        usage.elements.0 = 375
        #expect(usage.filling == 0.5)
        usage.elements.2 = 1500  // of the records there may be twice as many
        #expect(usage.filling == 1)
    }

    @Test("What libbpf says of an object that it cannot read stands in the error")
    func libbpfsWords() {
        let error = #expect(throws: GuardError.self) {
            _ = try BPFObject([1, 2, 3], length: 24, name: "nothing")
        }
        let words = error.map { "\($0)" } ?? ""
        #expect(words.contains("libbpf says: "), "\(words)")
        // What it says of itself in passing is not kept.
        #expect(!words.contains("loading object"), "\(words)")
    }

    @Test("Nothing is there")
    func nothing() throws {
        try withTemporaryFolder { folder in
            let state = GuardState(folder: "\(folder)/guard")
            #expect(!state.exists)
            #expect(state.attachmentIDs == [])
            #expect(state.eventsMapID == nil)
            let error = GuardError.noGuard(path: state.folder)
            #expect(throws: error) { try state.readABI() }
            #expect(throws: error) { try state.attachments() }
            #expect(throws: error) { try state.claims() }
            #expect(throws: error) { try state.claimCount() }
            #expect(throws: error) { try state.conflicts() }
            #expect(throws: error) { try state.tableSize() }
            #expect(access(state.folder, F_OK) != 0)
        }
    }

    @Test("Maps without the one that says which version they are of")
    func noVersion() throws {
        try withTemporaryFolder { folder in
            let state = GuardState(folder: folder)
            try #require(mkdir(state.mapsFolder, 0o700) == 0)
            #expect(state.exists)
            let error = GuardError.damagedState(
                path: folder, why: "\(folder)/maps/abi is missing")
            #expect(throws: error) { try state.readABI() }
            #expect(throws: error) { try state.attachments() }
        }
    }

    @Test("A file in the place of a map is an error that names it")
    func foreignFile() throws {
        try withTemporaryFolder { folder in
            let state = GuardState(folder: folder)
            try #require(mkdir(state.mapsFolder, 0o700) == 0)
            try makeFile(state.map(.abi))
            let error = #expect(throws: GuardError.self) { try state.readABI() }
            #expect(error.map { "\($0)".contains(state.map(.abi)) } == true)
        }
    }

    @Test("Attachments are the folders with a number, smallest first")
    func attachmentIDs() throws {
        try withTemporaryFolder { folder in
            let names = [
                "cgroup-300", "cgroup-18446744073709551615", "cgroup-7", "cgroup-", "cgroup-x",
                "cgroup--1", "cgroup-1.5", "cgroup-18446744073709551616", "new-5", "old-6", "maps",
                "9",
            ]
            for name in names { try #require(mkdir("\(folder)/\(name)", 0o700) == 0) }
            #expect(GuardState(folder: folder).attachmentIDs == [7, 300, .max])
        }
    }

    @Test("What an interrupted change left is removed by the next, and nothing else")
    func leftovers() throws {
        try withTemporaryFolder { folder in
            for name in ["new-7", "new-maps", "old-8", "cgroup-9", "other"] {
                try #require(mkdir("\(folder)/\(name)", 0o700) == 0)
                try makeFile("\(folder)/\(name)/pin")
            }
            let result = try GuardState(folder: folder).changing {
                names(in: folder).sorted()
            }
            #expect(result == ["cgroup-9", "other"])
            #expect(names(in: "\(folder)/cgroup-9") == ["pin"])
        }
    }

    @Test("A folder that a change leaves empty goes")
    func emptied() throws {
        try withTemporaryFolder { parent in
            let folder = "\(parent)/guard"
            try #require(mkdir(folder, 0o700) == 0)
            try GuardState(folder: folder).changing {
                #expect(access(folder, F_OK) == 0)
            }
            #expect(access(folder, F_OK) != 0)
        }
    }

    @Test("An error of a change comes out, and the lock is given back")
    func failedChange() throws {
        try withTemporaryFolder { folder in
            try makeFile("\(folder)/keeps-the-folder")
            let state = GuardState(folder: folder)
            #expect(throws: Errno(EDOM)) { try state.changing { throw Errno(EDOM) } }
            let lock = try OwnedDescriptor(path: folder, flags: O_RDONLY)
            #expect(flock(lock.raw, LOCK_EX | LOCK_NB) == 0)
        }
    }

    @Test("Only one changes the state at a time")
    func exclusive() throws {
        try withTemporaryFolder { folder in
            try makeFile("\(folder)/keeps-the-folder")
            try GuardState(folder: folder).changing {
                let other = try OwnedDescriptor(path: folder, flags: O_RDONLY)
                #expect(flock(other.raw, LOCK_SH | LOCK_NB) != 0)
                #expect(errno == EWOULDBLOCK)
            }
        }
    }

    @Test("A path that leads through a file is no state")
    func throughFile() {
        let state = GuardState(folder: "/dev/null/guard")
        #expect(!state.exists)
        #expect(throws: GuardError.noGuard(path: "/dev/null/guard")) { try state.readABI() }
    }
}
