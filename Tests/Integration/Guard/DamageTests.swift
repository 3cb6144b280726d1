// SPDX-License-Identifier: Apache-2.0
// A state that is not what it should be is refused by everybody, and left as it is.

import CTupleguardLibbpf
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Damage {
        private let tupleguard = Sandbox.program("tupleguard")

        private func move(_ from: String, _ to: String) throws {
            try Errno.check { rename(from, to) }
        }

        private func swap(_ a: String, _ b: String) throws {
            try move(a, a + "-aside")
            try move(b, a)
            try move(a + "-aside", b)
        }

        /// What every command says; nobody begins to guard, and what is attached goes on.
        private func expectRefusal(_ sandbox: Sandbox, _ why: String) throws {
            let (path, other) = (sandbox.cgroup.path, sandbox.outside.path)
            for arguments in [
                ["status"], ["claims"], ["conflicts"], ["stats"], ["attach", "--replace", path],
                ["attach", other], ["run", "--cgroup", path], ["run", "--cgroup", other],
                ["exec", "--", "true"],
            ] {
                let outcome = try sandbox.command(tupleguard, arguments)
                let status: [String: Int32] = ["exec": 125, "run": 78]
                #expect(outcome.status == status[arguments[0]] ?? 1, "\(arguments)")
                #expect(outcome.errors.contains(why), "\(arguments): \(outcome.errors)")
                #expect(!outcome.output.contains("guarding"), "\(arguments)")
                #expect(!outcome.errors.contains("guarding"), "\(arguments): \(outcome.errors)")
            }
            let sockets = try (0..<2).map { _ in try sandbox.socket(bound: "127.0.0.1:5000") }
            #expect(sockets[0].connect("127.0.0.1:6000") == nil)
            #expect(sockets[1].connect("127.0.0.1:6000") == "EPERM")
        }

        @Test func attachmentsWithoutMapsAreNoAbsenceOfAGuard() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let aside = sandbox.state.folder + "/old-aside"
                try move(sandbox.state.mapsFolder, aside)
                // Changing something removes what is left half-done, so another place is needed.
                let away =
                    "/sys/fs/bpf/" + sandbox.state.folder.split(separator: "/").last! + "-away"
                try move(aside, away)
                defer { try? move(away, sandbox.state.mapsFolder) }
                try expectRefusal(sandbox, "maps is missing")
                try move(away, sandbox.state.mapsFolder)
                #expect(try sandbox.tupleguard("status").status == 0)
            }
        }

        @Test(arguments: [
            ("groups", "claims_more"), ("ids", "usage"), ("socket_records", "buckets"),
            ("busy", "busy_tags"),
        ])
        func mapsInEachOthersPlaces(_ a: String, _ b: String) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let maps = sandbox.state.mapsFolder
                try swap("\(maps)/\(a)", "\(maps)/\(b)")
                try expectRefusal(sandbox, ", and should be ")
                try swap("\(maps)/\(a)", "\(maps)/\(b)")
                #expect(try sandbox.tupleguard("status").status == 0)
            }
        }

        /// Each of what makes a map what it is, one by one.
        @Test(arguments: ["type", "key", "value", "entries"])
        func aMapOfAnotherShape(_ difference: String) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let path = sandbox.state.map(.claimsMore)
                let right = try BPFMap(pinned: path)
                let isOther = { (name: String) in difference == name ? UInt32(8) : 0 }
                let raw = try Errno.check {
                    bpf_map_create(
                        difference == "type" ? BPF_MAP_TYPE_LRU_HASH : BPF_MAP_TYPE_HASH,
                        "claims_more", UInt32(right.keySize) + isOther("key"),
                        UInt32(right.valueSize) + isOther("value"),
                        UInt32(right.capacity) + isOther("entries"), nil)
                }
                let wrong = OwnedDescriptor(taking: raw)
                try move(path, path + "-aside")
                try Errno.check { bpf_obj_pin(wrong.raw, path) }
                try expectRefusal(sandbox, ", and should be ")
                unlink(path)
                try move(path + "-aside", path)
                #expect(try sandbox.tupleguard("status").status == 0)
            }
        }

        @Test func linksInEachOthersPlaces() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let folder = sandbox.state.attachmentFolder(sandbox.cgroup.id)
                try swap("\(folder)/guard_connect4", "\(folder)/guard_connect6")
                for arguments in [["status"], ["attach", "--replace", sandbox.cgroup.path]] {
                    let outcome = try sandbox.command(tupleguard, arguments)
                    #expect(outcome.status == 1)
                    #expect(outcome.errors.contains("that link is on another hook"))
                }
                #expect(try sandbox.tupleguard("detach", "--all").status == 0)
            }
        }
    }
}
