// SPDX-License-Identifier: Apache-2.0
// Taking over a guard of the version before. The older guard here is a fake with its maps, pins and
// links, whose programs refuse every connect: what gets through meanwhile was unguarded.

import CTupleguardLibbpf
import Foundation
import Glibc
import Synchronization
import Testing
import TupleguardABI
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Takeover {
        private static let olderMaps = [
            "buckets", "groups", "further", "homes", "spares", "ids", "conflicts", "events",
        ]

        private func makeMap(_ name: String, valueSize: Int, _ value: UnsafeRawPointer? = nil)
            throws
            -> OwnedDescriptor
        {
            let map = try OwnedDescriptor {
                bpf_map_create(BPF_MAP_TYPE_ARRAY, name, 4, UInt32(valueSize), 1, nil)
            }
            var zero: UInt32 = 0
            if let value {
                let raw = map.raw
                try Errno.check { bpf_map_update_elem(raw, &zero, value, 0) }
            }
            return map
        }

        /// A program that does nothing but answer.
        private func makeProgram(_ hook: Hook, allowing: Bool = false) throws -> OwnedDescriptor {
            let isRelease = hook == .release
            var instructions = [bpf_insn(), bpf_insn()]
            instructions[0].code = UInt8(BPF_ALU64 | BPF_MOV | BPF_K)
            instructions[0].imm = isRelease || allowing ? 1 : 0
            instructions[1].code = UInt8(BPF_JMP | BPF_EXIT)
            var options = bpf_prog_load_opts()
            options.sz = MemoryLayout<bpf_prog_load_opts>.size
            options.expected_attach_type = hook.attachType
            let type = isRelease ? BPF_PROG_TYPE_CGROUP_SOCK : BPF_PROG_TYPE_CGROUP_SOCK_ADDR
            return try OwnedDescriptor {
                bpf_prog_load(type, "older", "GPL", &instructions, 2, &options)
            }
        }

        private func pin(_ object: borrowing OwnedDescriptor, _ path: String) throws {
            let raw = object.raw
            try Errno.check { bpf_obj_pin(raw, path) }
        }

        private func attachOlder(
            to cgroup: Cgroup, in state: GuardState, abi: UInt32 = 3, looksUp: Bool = false
        ) throws {
            let folder = "\(state.folder)/cgroup-\(cgroup.id)"
            if access(state.folder, F_OK) != 0 { mkdir(state.folder, 0o750) }
            if mkdir(state.mapsFolder, 0o750) == 0 {
                var info = tg_abi_info()
                info.magic = UInt32(TG_MAGIC)
                info.abi = abi
                info.table_size = 1024
                let map = try makeMap("abi", valueSize: MemoryLayout<tg_abi_info>.size, &info)
                try pin(map, "\(state.mapsFolder)/abi")
                for name in Self.olderMaps {
                    let map = try makeMap(name, valueSize: 8)
                    try pin(map, "\(state.mapsFolder)/\(name)")
                }
            }
            mkdir(folder, 0o750)
            var policy = tg_policy_abi3()
            policy.attachment = cgroup.id
            policy.grace_ns = 1_000_000_000
            policy.error = UInt32(EADDRNOTAVAIL)
            policy.refuse_when_full = 1
            policy.look_up = looksUp ? 1 : 0
            policy.look_up_auto = policy.look_up
            policy.outsiders = (looksUp ? TG_OUTSIDERS_OBSERVE : TG_OUTSIDERS_IGNORE).rawValue
            policy.discover = TG_DISCOVER_ALL.rawValue
            policy.exhausted = UInt32(EAGAIN)
            let map = try makeMap("policy", valueSize: MemoryLayout<tg_policy_abi3>.size, &policy)
            try pin(map, "\(folder)/policy")
            let counters = try makeMap("counters", valueSize: 272)
            try pin(counters, "\(folder)/counters")
            for hook in Hook.needed(by: Policy()) {
                let program = try makeProgram(
                    hook, allowing: hook == .bind4 || hook == .bind6)
                let link = try Link(attaching: program.raw, to: cgroup, at: hook)
                try link.pin("\(folder)/\(hook.rawValue)")
            }
        }

        /// The older guard's programs for sockets outside, which let all through.
        private func attachOlderOutside(to top: Cgroup, in state: GuardState) throws {
            mkdir(state.outsidersFolder, 0o750)
            let counters = try makeMap("counters", valueSize: 312)
            try pin(counters, "\(state.outsidersFolder)/counters")
            for hook in Hook.outer {
                let program = try makeProgram(hook, allowing: true)
                let link = try Link(attaching: program.raw, to: top, at: hook)
                try link.pin("\(state.outsidersFolder)/\(hook.outerName)")
            }
        }

        private func programsAttached(to cgroup: Cgroup) throws -> Int {
            let target = try OwnedDescriptor(path: cgroup.folder, flags: O_RDONLY | O_DIRECTORY)
            var ids = [UInt32](repeating: 0, count: 16)
            var count = UInt32(ids.count)
            try Errno.check {
                bpf_prog_query(target.raw, BPF_CGROUP_INET4_CONNECT, 0, nil, &ids, &count)
            }
            return Int(count)
        }

        /// Calls `body` while another thread tries to connect a second socket to each held tuple.
        ///
        /// - Returns: how often it tried, and how often it succeeded.
        private func contending(
            _ second: TestSocket, ports: ClosedRange<Int>, _ body: () throws -> Void
        ) rethrows -> (tries: Int, successes: Int) {
            let isOver = Atomic(false)
            let tries = Atomic(0)
            let successes = Atomic(0)
            let ended = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                while !isOver.load(ordering: .relaxed) {
                    for port in ports {
                        if second.connect("127.0.0.1:\(port)") == nil {
                            successes.add(1, ordering: .relaxed)
                        }
                        tries.add(1, ordering: .relaxed)
                    }
                }
                ended.signal()
            }
            defer {
                isOver.store(true, ordering: .relaxed)
                ended.wait()
            }
            try body()
            usleep(200_000)
            return (tries.load(ordering: .relaxed), successes.load(ordering: .relaxed))
        }

        @Test func noMomentIsUnguarded() throws {
            try Sandbox.run { sandbox in
                let ports = 6000...6049
                for port in ports {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(socket.connect("127.0.0.1:\(port)") == nil)
                }
                let second = try sandbox.socket(bound: "127.0.0.1:5000")
                try attachOlder(to: sandbox.cgroup, in: sandbox.state)
                try attachOlder(to: sandbox.outside, in: sandbox.state)
                #expect(second.connect("127.0.0.1:7000") == "EPERM")
                let (tries, successes) = try contending(second, ports: ports) {
                    let paths = try sandbox.state.takeOver()
                    #expect(paths == [sandbox.cgroup.path, sandbox.outside.path])
                }
                #expect(tries > 1000)
                #expect(successes == 0)
                #expect(second.connect("127.0.0.1:7000") == nil)  // the older guard is gone

                for cgroup in [sandbox.cgroup, sandbox.outside] {
                    #expect(try programsAttached(to: cgroup) == 1)
                }
                let expected = [sandbox.cgroup, sandbox.outside].map { "cgroup-\($0.id)" }
                #expect(
                    try FileManager.default.contentsOfDirectory(atPath: sandbox.state.folder)
                        .sorted() == (expected + ["maps"]).sorted())
                #expect(try sandbox.state.tableSize() == 1024)
                let policy = try #require(try sandbox.state.attachments().first?.policy)
                #expect(policy.refusal == .eaddrnotavail)
                #expect(policy.whenFull == .refuse)
                #expect(policy.discover == .all)
                #expect(policy.whenExhausted == .eagain)
                #expect(policy.lookUp == .off)
                #expect(policy.outsiders == .ignore)
                #expect(try sandbox.state.takeOver() == nil)
            }
        }

        /// Killed between any two of its steps, it leaves what the next one can finish, and the
        /// cgroups guarded all the time.
        @Test(arguments: 0..<9)
        func aTakeoverThatIsInterruptedIsFinished(afterMoves moves: Int) throws {
            try Sandbox.run { sandbox in
                let holder = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(holder.connect("127.0.0.1:6000") == nil)
                try attachOlder(to: sandbox.cgroup, in: sandbox.state, looksUp: true)
                try attachOlder(to: sandbox.outside, in: sandbox.state)
                try attachOlderOutside(to: sandbox.top, in: sandbox.state)
                var interrupted = sandbox.state
                interrupted.movesBeforeCrash = moves
                // Two folders of maps, two for outsiders, and two of each cgroup.
                #expect(((try? interrupted.takeOver()) == nil) == (moves < 8))
                let second = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(second.connect("127.0.0.1:6000") != nil)

                #expect(try sandbox.state.takeOver() == nil)
                #expect(
                    Set(try sandbox.state.attachments().map(\.id))
                        == [sandbox.cgroup.id, sandbox.outside.id])
                let folders = [sandbox.cgroup, sandbox.outside].map { "cgroup-\($0.id)" }
                #expect(
                    Set(names(in: sandbox.state.folder)) == Set(folders + ["maps", "outside"]))
                for cgroup in [sandbox.cgroup, sandbox.outside, sandbox.top] {
                    #expect(try programsAttached(to: cgroup) == 1)
                }
                #expect(second.connect("127.0.0.1:6000") == "EADDRNOTAVAIL")
                #expect(second.connect("127.0.0.1:7000") == nil)
            }
        }

        /// A guard that looked for outsiders goes on seeing them, by programs at the root.
        @Test func outsidersAreSeen() throws {
            try Sandbox.run { sandbox in
                try attachOlder(to: sandbox.cgroup, in: sandbox.state, looksUp: true)
                #expect(try sandbox.state.takeOver() == [sandbox.cgroup.path])
                let policy = try #require(try sandbox.state.attachments().first?.policy)
                #expect(policy.outsiders == .observe)
                #expect(try sandbox.state.outsidersAttachment()?.path == sandbox.top.path)
                #expect(try programsAttached(to: sandbox.top) == 1)
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(insider.connect("127.0.0.1:6000") == "EADDRNOTAVAIL")
                #expect(
                    try sandbox.state.conflicts().map(\.last.reason) == [.outside])
                try sandbox.state.detachAll()
                #expect(try programsAttached(to: sandbox.top) == 0)
            }
        }

        /// What the older guard has of a cgroup that is gone goes too, and nothing else.
        @Test func aCgroupThatIsGoneHasNoSuccessor() throws {
            try Sandbox.run { sandbox in
                let child = try sandbox.makeChild("child")
                try attachOlder(to: sandbox.cgroup, in: sandbox.state)
                try attachOlder(to: child, in: sandbox.state)
                try Errno.check { rmdir(child.folder) }
                #expect(try sandbox.state.takeOver() == [sandbox.cgroup.path])
                #expect(
                    Set(names(in: sandbox.state.folder))
                        == ["cgroup-\(sandbox.cgroup.id)", "maps"])
                #expect(try programsAttached(to: sandbox.cgroup) == 1)
                let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(socket.connect("127.0.0.1:6000") == nil)
            }
        }

        @Test func aCommandTakesOver() throws {
            try Sandbox.run { sandbox in
                try attachOlder(to: sandbox.cgroup, in: sandbox.state)
                let refused = try sandbox.tupleguard("attach", sandbox.cgroup.folder)
                #expect(refused.status != 0)
                #expect(refused.errors.contains("attach --replace"), "\(refused.errors)")
                let outcome = try sandbox.tupleguard(
                    "attach", "--replace", "--errno", "EPERM", sandbox.cgroup.folder)
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("took over"))
                #expect(try programsAttached(to: sandbox.cgroup) == 1)
                #expect(try sandbox.state.attachments().map(\.policy.refusal) == [.eperm])
            }
        }

        @Test func whatIsNotKnownIsLeftAlone() throws {
            try Sandbox.run { sandbox in
                try attachOlder(to: sandbox.cgroup, in: sandbox.state, abi: 1)
                #expect(try sandbox.state.takeOver() == nil)
                let outcome = try sandbox.tupleguard("attach", "--replace", sandbox.cgroup.folder)
                #expect(outcome.status != 0)
                #expect(outcome.errors.contains("ABI 1"), "\(outcome.errors)")
                #expect(try programsAttached(to: sandbox.cgroup) == 1)
                let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(socket.connect("127.0.0.1:6000") == "EPERM")
            }
        }

        /// A new guard that cannot be attached leaves the older one as it was.
        @Test func aFailureLeavesTheOlderGuard() throws {
            try Sandbox.run { sandbox in
                try attachOlder(to: sandbox.cgroup, in: sandbox.state)
                unlink("\(sandbox.state.folder)/cgroup-\(sandbox.cgroup.id)/policy")
                #expect(throws: GuardError.self) { try sandbox.state.takeOver() }
                #expect(try programsAttached(to: sandbox.cgroup) == 1)
                #expect(
                    try FileManager.default.contentsOfDirectory(atPath: sandbox.state.folder)
                        .sorted() == ["cgroup-\(sandbox.cgroup.id)", "maps"])
                let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(socket.connect("127.0.0.1:6000") == "EPERM")
            }
        }
    }
}
