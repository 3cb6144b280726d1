// SPDX-License-Identifier: Apache-2.0
// The daemon as its operators meet it: starting, logging, dying, coming back.

import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension Sandbox {
    /// An agent for the sandbox's cgroup that has said it is ready.
    func startAgent(_ more: [String] = []) throws -> RunningProgram {
        let agent = try start(
            Self.program("tupleguard"),
            ["run", "--cgroup", cgroup.folder, "--table-size", "65536"] + more)
        #expect(
            eventually { agent.errorsSoFar.contains("ready, guarding") || !agent.isRunning },
            "\(agent.errorsSoFar)")
        return agent
    }
}

extension IntegrationTests {
    @Suite struct Agents {
        private let tupleguard = Sandbox.program("tupleguard")
        private let stress = Sandbox.program("tupleguard-stress")

        /// An agent for the sandbox's cgroup that has said it is ready.
        private func startAgent(_ sandbox: Sandbox, _ more: String...) throws -> RunningProgram {
            try sandbox.startAgent(more)
        }

        private func collide(_ sandbox: Sandbox, port: UInt16) throws {
            let a = try sandbox.socket(bound: "127.0.0.1:\(port)")
            let b = try sandbox.socket(bound: "127.0.0.1:\(port)")
            defer { for socket in [a, b] { sandbox.close(socket) } }
            #expect(a.connect("127.0.0.1:6000") == nil)
            #expect(b.connect("127.0.0.1:6000") == "EPERM")
        }

        private func isGuarded(_ cgroup: Cgroup, in state: GuardState) throws -> Bool {
            do {
                return try state.attachments().contains { $0.id == cgroup.id }
            } catch GuardError.noGuard {
                return false
            }
        }

        @Test func logsEachRefusalInOneLineAndEndsOnSIGTERM() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox)
                try collide(sandbox, port: 5000)
                #expect(
                    eventually {
                        agent.errorsSoFar.contains("refused 127.0.0.1:5000 -> 127.0.0.1:6000")
                    })
                let line = agent.errorsSoFar.split(separator: "\n").first { $0.contains("refused") }
                #expect(line?.contains("(pid \(getpid()), uid 0) in /") == true)
                #expect(line?.contains("held by") == true)
                #expect(try sandbox.tupleguard("status").output.contains("running (pid"))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                // The guard goes on without it.
                try collide(sandbox, port: 5001)
                #expect(try sandbox.tupleguard("status").output.contains("not running"))
            }
        }

        @Test func logsJSON() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox, "--log-format", "json")
                try collide(sandbox, port: 5000)
                #expect(eventually { agent.errorsSoFar.contains(#""action":"refused""#) })
                agent.signal(SIGINT)
                let outcome = agent.wait()
                #expect(outcome.status == 0)
                for line in outcome.errors.split(separator: "\n") {
                    #expect(try jsonObject(line)["time"] is String)
                }
            }
        }

        @Test func followStreamsConflicts() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox)
                let follower = try sandbox.start(tupleguard, ["conflicts", "--follow"])
                // A conflict now and then until the follower has joined and seen one.
                var port: UInt16 = 5000
                let seen = try eventually { () throws in
                    try collide(sandbox, port: port)
                    port = port == 5999 ? 5000 : port + 1
                    return follower.outputSoFar.contains("refused 127.0.0.1:5")
                }
                #expect(seen)
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                let outcome = follower.wait()
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("the agent has stopped"))
            }
        }

        @Test func oneAtATime() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox)
                let second = try sandbox.tupleguard("run", "--cgroup", sandbox.cgroup.folder)
                #expect(second.status == 1)
                #expect(second.errors.contains("another agent is running (pid "))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        @Test func detachOnExitLeavesNothing() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox, "--detach-on-exit")
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func aCgroupThatComesBackIsGuardedAgain() throws {
            try Sandbox.run { sandbox in
                let folder = try sandbox.makeChild("service").folder
                let agent = try sandbox.start(tupleguard, ["run", "--cgroup", folder])
                #expect(eventually { agent.errorsSoFar.contains("ready, guarding") })
                rmdir(folder)
                #expect(eventually { agent.errorsSoFar.contains("is gone") })
                let again = try sandbox.makeChild("service")
                #expect(try eventually { () throws in try isGuarded(again, in: sandbox.state) })
                let a = try sandbox.socket(bound: "127.0.0.1:5000", in: again)
                let b = try sandbox.socket(bound: "127.0.0.1:5000", in: again)
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                // It also reads the new ring buffer.
                #expect(eventually { agent.errorsSoFar.contains("refused 127.0.0.1:5000") })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        /// Runs `body` while a contender finds exactly one winner in each of its rounds.
        private func contending(_ sandbox: Sandbox, _ body: () throws -> Void) throws {
            func rounds() throws -> UInt64 { try sandbox.counters()[.claimed] }
            let contender = try sandbox.start(
                stress, ["race", "--threads", "4", "--rounds", "1000000000"], in: sandbox.cgroup)
            sandbox.endWithSandbox(contender)
            #expect(try eventually { () throws in try rounds() > 1000 })
            try body()
            let before = try rounds()
            #expect(try eventually { () throws in try rounds() > before + 1000 })
            contender.signal(SIGINT)
            let outcome = contender.wait()
            #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
        }

        @Test func killedAndAdoptedUnderLoadWithNoWindow() throws {
            try Sandbox.run { sandbox in
                var agent = try startAgent(sandbox)
                try contending(sandbox) {
                    for policy in ["EPERM", "EPERM", "EPERM"] {
                        agent.signal(SIGKILL)
                        #expect(agent.wait().status == 128 + SIGKILL)
                        agent = try startAgent(sandbox, "--errno", policy)
                        #expect(agent.errorsSoFar.contains("adopted"))
                    }
                }
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }

        /// Programs are swapped again and again under the same load: new ones by tag and by policy.
        @Test func upgradedUnderLoadWithNoWindow() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                try contending(sandbox) {
                    for _ in 0..<20 {
                        let before = try sandbox.state.attachments()[0].programs.map(\.id)
                        try sandbox.state.attach(sandbox.cgroup, policy: Policy(), replacing: true)
                        let after = try sandbox.state.attachments()[0].programs.map(\.id)
                        #expect(Set(before).isDisjoint(with: after))
                        usleep(20_000)
                    }
                }
            }
        }

        @Test func programsOfAnotherTagAreUpgraded() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let current = try sandbox.state.attachments()[0]
                #expect(try sandbox.state.upgrade(current, of: sandbox.cgroup) == false)
                // An "older version": the IPv6 hook's program on the IPv4 hook, which the kernel
                // takes.
                let hooks = try sandbox.state.loadHooks(
                    for: sandbox.cgroup, policy: Policy(), tableSize: 1024, keepingCounters: true)
                let link = try Link(
                    pinned: "\(sandbox.state.attachmentFolder(sandbox.cgroup.id))/guard_connect4")
                try link.update(to: hooks.program("guard_connect6"), at: .connect4)
                let old = try sandbox.state.attachments()[0]
                #expect(old.programs.map(\.tag) != current.programs.map(\.tag))
                #expect(try sandbox.state.upgrade(old, of: sandbox.cgroup) == true)
                let new = try sandbox.state.attachments()[0]
                #expect(new.programs.map(\.tag) == current.programs.map(\.tag))
                try collide(sandbox, port: 5000)
            }
        }

        /// A flood of refusals: the log is bounded, the counters are exact. What came while the
        /// agent did not get a processor may be missing in the log, and is counted too.
        @Test func aFloodIsCountedExactly() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                let attempts = 50_000
                let began = KernelClock.monotonic
                for _ in 0..<attempts { _ = b.connect("127.0.0.1:6000") }
                #expect(try sandbox.counters()[.refusedHeld] == UInt64(attempts))
                agent.signal(SIGTERM)
                let outcome = agent.wait()
                #expect(outcome.status == 0)
                let seconds = (KernelClock.monotonic - began) / 1_000_000_000
                // One tuple again and again: its first refusal, and now and then how many more.
                let lines = outcome.errors.split(separator: "\n").filter {
                    $0.contains("refused 127.0.0.1:5000")
                }
                #expect(lines.count < 10 + Int(seconds) / 10)
                let more = lines.compactMap { line in
                    line.firstMatch(of: #/ notice ([0-9,]+) more times in [0-9]+s: refused /#)
                        .flatMap { Int($0.1.filter(\.isNumber)) }
                }
                let unheard = Int(try sandbox.counters()[.eventsDropped])
                #expect(more.reduce(1, +) + unheard == attempts)
            }
        }

        @Test func tellsSystemd() throws {
            try Sandbox.run { sandbox in
                let manager = try PretendedServiceManager()
                let agent = try sandbox.start(
                    tupleguard, ["run", "--cgroup", sandbox.cgroup.folder],
                    environment: ["NOTIFY_SOCKET": manager.path])
                #expect(eventually { manager.messages.first?.hasPrefix("READY=1\n") == true })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                #expect(manager.messages.last == "STOPPING=1")
            }
        }
    }
}
