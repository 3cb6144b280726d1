// SPDX-License-Identifier: Apache-2.0
// Sockets outside of all guarded cgroups: what they claim, what is refused to them, and what
// is attached for that.

import CTupleguardLibbpf
import Glibc
import Synchronization
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Outsiders {
        /// A local name, a remote name, and the family that goes with them.
        struct Pair: Sendable, CustomTestStringConvertible {
            let kind: Sandbox.Kind
            let local: String
            let remote: String
            var testDescription: String { "\(local) -> \(remote)" }

            static let all = [
                Pair(kind: .v4, local: "127.0.0.1:5000", remote: "127.0.0.1:6000"),
                Pair(kind: .v6, local: "[::1]:5000", remote: "[::1]:6000"),
                Pair(
                    kind: .v6, local: "[::ffff:127.0.0.1]:5000", remote: "[::ffff:127.0.0.1]:6000"),
                Pair(kind: .v4, local: "0.0.0.0:5000", remote: "127.0.0.1:6000"),
                Pair(kind: .v4, local: "127.0.0.1:5000", remote: "0.0.0.0:6000"),
            ]
        }

        private func policy(_ outsiders: Policy.Outsiders) -> Policy {
            var policy = Policy()
            policy.outsiders = outsiders
            return policy
        }

        /// How many programs a cgroup has on a hook.
        private func count(_ hook: Hook, at cgroup: Cgroup) throws -> Int {
            try AttachedPrograms(at: cgroup, hook).ids.count
        }

        @Test(arguments: Policy.Outsiders.allCases, Pair.all)
        func anOutsiderThatWasThereFirst(_ outsiders: Policy.Outsiders, _ pair: Pair) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(outsiders))
                let outsider = try sandbox.socket(pair.kind, bound: pair.local, in: sandbox.outside)
                let insider = try sandbox.socket(pair.kind, bound: pair.local)
                #expect(outsider.connect(pair.remote) == nil)
                #expect(insider.connect(pair.remote) == (outsiders == .ignore ? nil : "EPERM"))
                let counters = try sandbox.counters()
                #expect(counters[.refusedOutside] == (outsiders == .ignore ? 0 : 1))
                #expect(counters[.refusedHeld] == 0)
                guard outsiders != .ignore else { return }
                let conflict = try #require(try sandbox.state.conflicts().first)
                #expect(conflict.last.reason == .outside)
                #expect(conflict.last.holder?.cgroupId == sandbox.outside.id)
                #expect(conflict.last.holder?.pid == getpid())
                sandbox.close(outsider)
                #expect(insider.connect(pair.remote) == nil)
                sandbox.close(insider)
                #expect(try sandbox.claims().isEmpty)
            }
        }

        @Test(arguments: Policy.Outsiders.allCases, Pair.all)
        func anOutsiderThatComesSecond(_ outsiders: Policy.Outsiders, _ pair: Pair) throws {
            try Sandbox.run { sandbox in
                var policy = policy(outsiders)
                policy.refusal = .eaddrinuse
                try sandbox.attach(policy)
                let insider = try sandbox.socket(pair.kind, bound: pair.local)
                let outsider = try sandbox.socket(pair.kind, bound: pair.local, in: sandbox.outside)
                #expect(insider.connect(pair.remote) == nil)
                #expect(
                    outsider.connect(pair.remote) == (outsiders == .refuse ? "EADDRINUSE" : nil))
                let conflicts = try sandbox.state.conflicts()
                #expect(conflicts.map(\.last.reason) == (outsiders == .ignore ? [] : [.outsider]))
                #expect(
                    conflicts.allSatisfy {
                        $0.last.action == (outsiders == .observe ? .observed : .refused)
                    })
                #expect(conflicts.allSatisfy { $0.last.guardedCgroupId == sandbox.cgroup.id })
                #expect(
                    conflicts.allSatisfy { $0.last.claimant?.cgroupId == sandbox.outside.id })
                let counters = try sandbox.state.outsidersAttachment()?.counters
                #expect(
                    counters?[.observed]
                        == (outsiders == .ignore ? nil : outsiders == .observe ? 1 : 0))
                #expect(
                    counters?[.refusedOutsider]
                        == (outsiders == .ignore ? nil : outsiders == .refuse ? 1 : 0))
                sandbox.close(insider)
                #expect(outsider.connect(pair.remote) == nil)
            }
        }

        @Test(arguments: [Policy.Outsiders.observe, .refuse])
        func outsidersMayDoAmongThemselvesAsTheyPlease(_ outsiders: Policy.Outsiders) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(outsiders))
                for _ in 0..<2 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                }
                #expect(try sandbox.state.conflicts().isEmpty)
                // Nor does the guard choose a port for them, or let them share one.
                let other = try sandbox.socket(in: sandbox.outside, sharing: false)
                #expect(other.connect("127.0.0.1:6000") == nil)
                #expect(other.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                let multicast = try sandbox.socket(bound: "127.0.0.1:5001", in: sandbox.outside)
                try sandbox.ip("route", "add", "224.0.0.0/4", "dev", "lo")
                #expect(multicast.connect("239.1.2.3:6000") == nil)
                #expect(try sandbox.claims().count == 1)
            }
        }

        /// Only the first of them has a claim: it stays for the others when that one goes.
        @Test(arguments: [Policy.Outsiders.observe, .refuse], Pair.all)
        func outsidersThatShareATuple(_ outsiders: Policy.Outsiders, _ pair: Pair) throws {
            try Sandbox.run { sandbox in
                var policy = policy(outsiders)
                policy.graceNanoseconds = 0  // who came beside is not waited for
                try sandbox.attach(policy)
                let sharing = try (0..<3).map { _ in
                    let socket = try sandbox.socket(
                        pair.kind, bound: pair.local, in: sandbox.outside)
                    #expect(socket.connect(pair.remote) == nil)
                    return socket
                }
                let insider = try sandbox.socket(pair.kind, bound: pair.local)
                for (index, socket) in sharing.enumerated() {
                    #expect(insider.connect(pair.remote) == "EPERM")
                    #expect(try sandbox.counters()[.refusedOutside] == UInt64(index + 1))
                    let conflict = try #require(try sandbox.state.conflicts().first)
                    #expect(conflict.last.holder?.cgroupId == sandbox.outside.id)
                    sandbox.close(socket)
                }
                #expect(
                    try eventually { () throws in insider.connect(pair.remote) == nil })
                sandbox.close(insider)
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }

        /// Whoever comes beside a claim may be on its way for as long as the grace period is.
        @Test func anOutsiderThatCameBesideIsWaitedFor() throws {
            try Sandbox.run { sandbox in
                var policy = policy(.refuse)
                policy.graceNanoseconds = 60_000_000_000
                try sandbox.attach(policy)
                for _ in 0..<2 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    sandbox.close(socket)
                }
                let holder = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                let beside = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(holder.connect("127.0.0.1:6000") == nil)
                #expect(beside.connect("127.0.0.1:6000") == nil)
                sandbox.close(holder)
                sandbox.close(beside)
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(insider.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedInFlight] == 1)
            }
        }

        /// An outsider that does not know its local address yet comes beside one that has another.
        @Test func anOutsiderWithAnotherAddressThanTheClaim() throws {
            try Sandbox.run { sandbox in
                var policy = policy(.refuse)
                policy.graceNanoseconds = 0
                try sandbox.attach(policy)
                let first = try sandbox.socket(bound: "127.0.0.2:5000", in: sandbox.outside)
                let second = try sandbox.socket(bound: "0.0.0.0:5000", in: sandbox.outside)
                #expect(first.connect("127.0.0.1:6000") == nil)
                #expect(second.connect("127.0.0.1:6000") == nil)  // from 127.0.0.1
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(insider.connect("127.0.0.1:6000") == "EPERM")
                let other = try sandbox.socket(bound: "127.0.0.3:5000")
                #expect(other.connect("127.0.0.1:6000") == nil)
                // The claim stands for both, so it is nobody's while the second is there.
                sandbox.close(first)
                #expect(insider.connect("127.0.0.1:6000") == "EPERM")
                sandbox.close(second)
                #expect(try eventually { () throws in insider.connect("127.0.0.1:6000") == nil })
            }
        }

        /// Where the sockets in the way can't be listed nobody is said to hold the tuple.
        @Test(arguments: [Policy.Outsiders.observe, .refuse])
        func anOutsiderThatPerhapsMeetsNobody(_ outsiders: Policy.Outsiders) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(outsiders))
                let insiders = try [1, 2].map { number in
                    let socket = try sandbox.socket(bound: "127.0.0.\(number):5000")
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                // The first claim of a destination is found without its source, others are not.
                sandbox.close(insiders[0])
                let outsider = try sandbox.socket(bound: "0.0.0.0:5000", in: sandbox.outside)
                #expect(
                    outsider.connect("127.0.0.1:6000") == (outsiders == .refuse ? "EPERM" : nil))
                let conflict = try #require(try sandbox.state.conflicts().first).last
                #expect(conflict.reason == .ambiguous)
                #expect(conflict.holder == nil)
                #expect(conflict.action == (outsiders == .refuse ? .refused : .observed))
                #expect(conflict.claimant?.cgroupId == sandbox.outside.id)
                #expect(conflict.guardedCgroupId == 0)
            }
        }

        /// What is left of such claims goes without anybody who asks for the tuple.
        @Test func aSweepEndsClaimsThatNobodyIsBeside() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(.refuse))
                let sharing = try (0..<4).map { index in
                    let socket = try sandbox.socket(
                        bound: "127.0.0.1:\(5000 + index / 2)", in: sandbox.outside)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                for socket in sharing[..<3] { sandbox.close(socket) }
                #expect(try sandbox.claims().count == 2)  // whose owners are gone
                #expect(
                    try eventually { () throws in
                        try sandbox.state.seed(again: true)
                        return try sandbox.claims().count == 1
                    })
                try sandbox.state.seed(again: true)
                #expect(try sandbox.claims().map(\.tuple.local.port) == [5001])
                sandbox.close(sharing[3])
                #expect(
                    try eventually { () throws in
                        try sandbox.state.seed(again: true)
                        return try sandbox.claims().isEmpty
                    })
            }
        }

        /// Pairs of one insider and one outsider that connect at once: what they got, how often.
        private func contest(_ sandbox: Sandbox, rounds: Int) throws -> [[String]: Int] {
            var outcomes: [[String]: Int] = [:]
            for round in 0..<rounds {
                // A port each: what another test has just forked may still have the last one's.
                let name = "127.0.0.1:\(10_000 + round)"
                let sockets = [
                    try sandbox.socket(bound: name),
                    try sandbox.socket(bound: name, in: sandbox.outside),
                ]
                let ready = Atomic<Int>(0)
                let results = Mutex(["", ""])
                withThreads(sockets.count) { index in
                    ready.add(1, ordering: .sequentiallyConsistent)
                    while ready.load(ordering: .sequentiallyConsistent) < sockets.count {}
                    let result = sockets[index].connect("127.0.0.1:6000") ?? "connected"
                    results.withLock { $0[index] = result }
                }
                outcomes[results.withLock { $0 }, default: 0] += 1
                sockets.forEach(sandbox.close)
            }
            return outcomes
        }

        @Test func whereOutsidersAreRefusedTheRaceHasOneWinner() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(.refuse))
                let rounds = 2000
                let outcomes = try contest(sandbox, rounds: rounds)
                let first = outcomes[["connected", "EPERM"], default: 0]
                let second = outcomes[["EPERM", "connected"], default: 0]
                #expect(first + second == rounds, "\(outcomes)")
            }
        }

        @Test func severalGuardsShareOneSetOfPrograms() throws {
            try Sandbox.run { sandbox in
                let slice = try sandbox.makeSibling("slice")
                let child = try sandbox.makeChild("child")
                try sandbox.attach(policy(.refuse))
                try sandbox.attach(policy(.observe), to: slice)
                try sandbox.attach(policy(.ignore), to: child)
                for hook in Hook.outer { #expect(try count(hook, at: sandbox.top) == 1) }
                // Each guard's own wish counts for its sockets; the child's are its parent's too.
                for (index, (holder, expected)) in [
                    (sandbox.cgroup, "EPERM"), (slice, nil), (child, "EPERM"),
                ].enumerated() {
                    let name = "127.0.0.1:\(5000 + index)"
                    let insider = try sandbox.socket(bound: name, in: holder)
                    let outsider = try sandbox.socket(bound: name, in: sandbox.outside)
                    #expect(insider.connect("127.0.0.1:6000") == nil)
                    #expect(outsider.connect("127.0.0.1:6000") == expected)
                }
                // Among guarded sockets nobody is an outsider.
                let other = try sandbox.socket(bound: "127.0.0.1:5000", in: slice)
                #expect(other.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.state.counters(of: slice.id)[.refusedHeld] == 1)
                try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                #expect(try sandbox.state.outsidersAttachment() != nil)
                try sandbox.state.detach(slice.id, path: slice.path)
                // The one that is left wants none.
                #expect(try sandbox.state.outsidersAttachment() == nil)
                for hook in Hook.outer { #expect(try count(hook, at: sandbox.top) == 0) }
            }
        }

        @Test func socketsOfACgroupThatIsDetachedAreOutsidersFromThenOn() throws {
            try Sandbox.run { sandbox in
                let slice = try sandbox.makeSibling("slice")
                try sandbox.attach()
                try sandbox.attach(to: slice)
                let a = try sandbox.socket(bound: "127.0.0.1:5000", in: slice)
                #expect(a.connect("127.0.0.1:6000") == nil)
                try sandbox.state.detach(slice.id, path: slice.path)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedOutside] == 1)
                sandbox.close(a)
                #expect(b.connect("127.0.0.1:6000") == nil)
            }
        }

        @Test func replacingChangesWhatBecomesOfOutsiders() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(.ignore))
                #expect(try count(.connect4, at: sandbox.top) == 0)
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(insider.connect("127.0.0.1:6000") == nil)
                for (outsiders, expected) in [
                    (Policy.Outsiders.refuse, "EPERM"), (.observe, nil), (.refuse, "EPERM"),
                    (.ignore, nil),
                ] {
                    try sandbox.state.attach(
                        sandbox.cgroup, policy: policy(outsiders), replacing: true)
                    let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                    #expect(outsider.connect("127.0.0.1:6000") == expected)
                    sandbox.close(outsider)
                    #expect(try sandbox.state.attachments().first?.policy.outsiders == outsiders)
                }
                #expect(try count(.connect4, at: sandbox.top) == 0)
            }
        }

        @Test func aGuardThatOnlyObservesRefusesNoOutsider() throws {
            try Sandbox.run { sandbox in
                var policy = policy(.refuse)
                policy.mode = .observe
                try sandbox.attach(policy)
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(insider.connect("127.0.0.1:6000") == nil)
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.state.conflicts().map(\.last.reason) == [.outsider])
            }
        }

        @Test func theRootItselfHasNoOutsiders() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(.refuse))
                try sandbox.attach(policy(.refuse), to: sandbox.top)
                #expect(try sandbox.state.outsidersAttachment() == nil)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.state.conflicts().map(\.last.reason) == [.held])
                try sandbox.state.detach(sandbox.top.id, path: sandbox.top.path)
                #expect(try sandbox.state.outsidersAttachment() != nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                // The first was another guard's.
                #expect(
                    Set(try sandbox.state.conflicts().map(\.last.reason)) == [.held, .outsider])
            }
        }

        @Test func whereTheRootIsTakenTheTuplesAreLookedUp() throws {
            try Sandbox.run { sandbox in
                let hooks = try sandbox.state.loadHooks(
                    for: sandbox.outside, policy: policy(.ignore), tableSize: 64,
                    keepingCounters: false)
                let top = try OwnedDescriptor(path: sandbox.top.folder, flags: O_RDONLY)
                let intruder = hooks.program("guard_release")
                try Errno.check {
                    bpf_prog_attach(
                        intruder, top.raw, BPF_CGROUP_INET_SOCK_RELEASE,
                        UInt32(BPF_F_ALLOW_OVERRIDE))
                }
                let error = #expect(throws: GuardError.self) { try sandbox.attach(policy(.refuse)) }
                #expect("\(error!)".contains("guard_release"))
                #expect(access(sandbox.state.folder, F_OK) != 0)
                try sandbox.attach(policy(.observe))
                #expect(try sandbox.state.outsidersAttachment() == nil)
                #expect(try sandbox.state.attachments().first?.looksUp == true)
                let remark = try sandbox.state.remarks(on: sandbox.cgroup).first ?? ""
                #expect(remark.hasPrefix("sockets outside are looked up one by one: "))
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                #expect(insider.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedOutside] == 1)
                // Once the way is free, replacing takes it.
                try Errno.check {
                    bpf_prog_detach2(intruder, top.raw, BPF_CGROUP_INET_SOCK_RELEASE)
                }
                try sandbox.state.attach(sandbox.cgroup, policy: policy(.refuse), replacing: true)
                #expect(try sandbox.state.outsidersAttachment()?.programs.count == 3)
                #expect(try sandbox.state.attachments().first?.looksUp == false)
                #expect(try sandbox.state.remarks(on: sandbox.cgroup) == [])
            }
        }

        @Test func whoeverIsKilledWhileAttachingLeavesSomethingToGoOnFrom() throws {
            try Sandbox.run { sandbox in
                let slice = try sandbox.makeSibling("slice")
                let attach = [
                    "attach", "--outsiders", "refuse", "--outermost", sandbox.top.folder,
                ]
                for delay in stride(from: UInt32(2000), to: 160_000, by: 8000) {
                    let attaching = try sandbox.start(
                        Sandbox.program("tupleguard"), attach + [slice.folder])
                    usleep(delay)
                    attaching.signal(SIGKILL)
                    _ = attaching.wait()
                    let again = try sandbox.command(
                        Sandbox.program("tupleguard"),
                        attach + ["--replace", sandbox.cgroup.folder])
                    #expect(again.status == 0, "\(again.errors)")
                    let insider = try sandbox.socket(bound: "127.0.0.1:5000")
                    let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                    #expect(insider.connect("127.0.0.1:6000") == nil)
                    #expect(outsider.connect("127.0.0.1:6000") == "EPERM")
                    sandbox.close(insider)
                    sandbox.close(outsider)
                    let detached = try sandbox.tupleguard("detach", "--all")
                    #expect(detached.status == 0, "\(detached.errors)")
                    #expect(access(sandbox.state.folder, F_OK) != 0)
                }
            }
        }
    }
}

/// Runs `body` on so many threads at once, and waits for all.
private func withThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Work: Sendable {
        let index: Int
        let body: @Sendable (Int) -> Void
        init(_ index: Int, _ body: @escaping @Sendable (Int) -> Void) {
            (self.index, self.body) = (index, body)
        }
    }
    let threads = (0..<count).map { index in
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(index, body))
        pthread_create(
            &thread, nil,
            { argument in
                let work = Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue()
                work.body(work.index)
                return nil
            }, work.toOpaque())
        return thread
    }
    for thread in threads { pthread_join(thread, nil) }
}
