// SPDX-License-Identifier: Apache-2.0
// Modes, errnos, full tables, replacing and detaching.

import CTupleguardLibbpf
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Policies {
        /// Two connects to one tuple; what the second got.
        private func collide(_ sandbox: Sandbox, port: UInt16 = 6000) throws -> String? {
            let a = try sandbox.socket(bound: "127.0.0.1:5000")
            let b = try sandbox.socket(bound: "127.0.0.1:5000")
            #expect(a.connect("127.0.0.1:\(port)") == nil)
            return b.connect("127.0.0.1:\(port)")
        }

        @Test(arguments: Policy.Refusal.allCases)
        func theErrnoIsTheOneAskedFor(_ refusal: Policy.Refusal) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.refusal = refusal
                try sandbox.attach(policy)
                #expect(try collide(sandbox) == refusal.rawValue)
            }
        }

        @Test func observeCountsAndAllows() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.mode = .observe
                try sandbox.attach(policy)
                #expect(try collide(sandbox) == nil)
                let counters = try sandbox.counters()
                #expect(counters[.observed] == 1)
                #expect(counters.refused == 0)
                let conflicts = try sandbox.state.conflicts()
                #expect(conflicts.count == 1)
                #expect(conflicts.first?.last.action == .observed)
            }
        }

        @Test(arguments: Policy.WhenFull.allCases)
        func aFullTable(_ whenFull: Policy.WhenFull) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.whenFull = whenFull
                try sandbox.attach(policy, tableSize: 64)
                var outcomes: [String?] = []
                for port in 0..<200 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:\(5000 + port)")
                    outcomes.append(socket.connect("127.0.0.1:6000"))
                }
                let room = try sandbox.state.claimCount()
                // Each claim has a bucket or an element of the hash map, and each socket a record.
                #expect((64...128).contains(room))
                let without = outcomes.count { $0 == "EPERM" }
                let counters = try sandbox.counters()
                let unclaimed = counters[.allowedTableFull] + counters[.refusedTableFull]
                #expect(counters[.claimed] + unclaimed == 200)
                #expect(unclaimed >= 72)
                switch whenFull {
                case .allow:
                    #expect(without == 0)
                    #expect(counters[.refusedTableFull] == 0)
                    // Told once a second: who fills the table goes on filling it.
                    let told = try sandbox.state.conflicts().filter {
                        $0.last.reason == .tableFull
                    }.reduce(0) { $0 + $1.count }
                    #expect((1..<unclaimed / 2).contains(told))
                case .refuse:
                    #expect(UInt64(without) == unclaimed)
                    #expect(counters[.allowedTableFull] == 0)
                }
            }
        }

        @Test func aPolicyIsReplacedAndCountersGoOn() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                #expect(try collide(sandbox) == "EPERM")
                var policy = Policy()
                policy.refusal = .eaddrinuse
                try sandbox.state.attach(sandbox.cgroup, policy: policy, replacing: true)
                let c = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(c.connect("127.0.0.1:6000") == "EADDRINUSE")
                #expect(try sandbox.counters().refused == 2)
                #expect(try sandbox.state.attachments().first?.policy == policy)
            }
        }

        @Test func attachingTwiceIsAnErrorAndChangesNothing() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let before = try sandbox.state.attachments().first?.programs
                #expect(throws: GuardError.alreadyAttached(path: sandbox.cgroup.path)) {
                    try sandbox.attach()
                }
                #expect(try sandbox.state.attachments().first?.programs == before)
                #expect(throws: GuardError.tableSizeFixed(existing: 1024, asked: 2048)) {
                    try sandbox.attach(to: sandbox.outside, tableSize: 2048)
                }
                #expect(try sandbox.state.attachments().count == 1)
            }
        }

        @Test func onlyABPFFileSystemCanHoldAGuard() throws {
            try withTemporaryFolder { folder in
                let state = GuardState(folder: "\(folder)/guard")
                #expect(throws: GuardError.noBPFFileSystem(path: folder, errno: Errno(EINVAL))) {
                    try state.checkPlace()
                }
                #expect(access(state.folder, F_OK) != 0)
            }
        }

        @Test func detachingLetsGoAndLeavesNothing() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                #expect(try collide(sandbox) == nil)
                #expect(access(sandbox.state.folder, F_OK) != 0)
                #expect(throws: GuardError.noGuard(path: sandbox.state.folder)) {
                    try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                }
            }
        }

        @Test func aProgramInTheWayIsNamed() throws {
            try Sandbox.run { sandbox in
                let other = try sandbox.state.loadHooks(
                    for: sandbox.outside, policy: Policy(), tableSize: 64, keepingCounters: false)
                let target = try OwnedDescriptor(path: sandbox.cgroup.folder, flags: O_RDONLY)
                #expect(
                    bpf_prog_attach(
                        other.program("guard_connect4"), target.raw, BPF_CGROUP_INET4_CONNECT, 0)
                        == 0)
                let error = #expect(throws: GuardError.self) { try sandbox.attach() }
                #expect("\(error!)".contains("guard_connect4"))
                #expect("\(error!)".contains(sandbox.cgroup.path))
                // Nothing half-attached, on any hook.
                for hook in Hook.needed(by: Policy()) where hook != .connect4 {
                    var count: UInt32 = 0
                    #expect(bpf_prog_query(target.raw, hook.attachType, 0, nil, nil, &count) == 0)
                    #expect(count == 0)
                }
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func anotherABIIsRefused() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let map = try BPFMap(pinned: sandbox.state.map(.abi))
                var zero: UInt32 = 0
                var info: [UInt32] = [0x7475_7067, 999, 1024, 0]
                #expect(bpf_map_update_elem(map.descriptor.raw, &zero, &info, 0) == 0)
                let expected = GuardError.otherABI(path: sandbox.state.folder, found: 999)
                #expect(throws: expected) { try sandbox.attach(to: sandbox.outside) }
                #expect(throws: expected) { try sandbox.state.claims() }
                let outcome = try sandbox.tupleguard("status")
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("ABI 999"))
            }
        }

        @Test func aDamagedOrForeignFolderIsNamedAndCanBeRemoved() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                unlink(sandbox.state.map(.groups))
                let error = #expect(throws: GuardError.self) {
                    try sandbox.attach(to: sandbox.outside)
                }
                #expect("\(error!)".contains("maps/groups is missing"))
                mkdir("\(sandbox.state.folder)/somebody-elses", 0o755)
                let foreign = #expect(throws: GuardError.self) { try sandbox.state.detachAll() }
                #expect("\(foreign!)".contains("somebody-elses"))
                rmdir("\(sandbox.state.folder)/somebody-elses")
                #expect(try collide(sandbox) == nil)  // what was ours is gone all the same
            }
        }

        @Test func namesAreTheKernels() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                #expect(try collide(sandbox) == "EPERM")
                let claim = try #require(try sandbox.claims().first)
                #expect(claim.tuple.description == "127.0.0.1:5000 -> 127.0.0.1:6000")
                #expect(claim.pid == getpid())
                let conflict = try #require(try sandbox.state.conflicts().first)
                #expect(conflict.last.claimant?.pid == getpid())
                #expect(conflict.last.holder?.pid == getpid())
                #expect(conflict.last.holderCookie == claim.cookie)
                #expect(conflict.last.guardedCgroupId == sandbox.cgroup.id)
                #expect(conflict.last.holder?.uid == getuid())
                #expect(conflict.last.claimant?.command == conflict.last.holder?.command)
            }
        }

        @Test func countersAreExactWhenEventsAreDropped() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                let attempts = 20_000  // more than the ring buffer holds
                let refused = (0..<attempts).count { _ in b.connect("127.0.0.1:6000") == "EPERM" }
                #expect(refused == attempts)
                let counters = try sandbox.counters()
                #expect(counters[.refusedHeld] == UInt64(attempts))
                #expect(counters[.eventsDropped] > 0)
                #expect(try sandbox.state.conflicts().map(\.count) == [UInt64(attempts)])
                // What was not dropped is all there.
                var read = 0
                let reader = try EventReader(sandbox.state) { event in
                    if event?.reason == .held { read += 1 }
                }
                while reader.poll(milliseconds: 0) > 0 {}
                #expect(UInt64(read) + counters[.eventsDropped] == UInt64(attempts))
            }
        }
    }
}
