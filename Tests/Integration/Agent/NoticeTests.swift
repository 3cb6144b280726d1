// SPDX-License-Identifier: Apache-2.0
// What unprivileged programs report, from their datagram to what an operator sees.

import CTupleguardTestSupport
import ConnectxCore
import Foundation
import Glibc
import Synchronization
import Testing
import TupleguardAgentClient
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Notices {
        private static let nobody: UInt32 = 65534
        private let tupleguard = Sandbox.program("tupleguard")

        /// A datagram of connectx: 127.0.0.1:`port` -> 127.0.0.2:53.
        private func datagram(
            _ kind: Notice.Kind = .conflict, port: UInt16 = 5000, count: UInt32 = 1
        ) -> [UInt8] {
            let report = Notice(
                kind: kind, transport: .udp,
                tuple: FourTuple(
                    local: Endpoint(IPAddress(v4: 127, 0, 0, 1), port),
                    remote: Endpoint(IPAddress(v4: 127, 0, 0, 2), 53)),
                count: count)
            return withUnsafeBytes(of: report.bytes) { Array($0) }
        }

        /// Sends as a process of its own, and waits while the agent is slow; returns its id.
        @discardableResult
        private func send(
            _ bytes: [UInt8], to sandbox: Sandbox, times: Int32 = 1, uid: UInt32 = nobody,
            descriptor: Int32 = -1
        ) throws -> Int32 {
            let pid = support_send_as(
                uid, sandbox.runFolder + "/report.sock", bytes, bytes.count, times, descriptor)
            if pid < 0 { throw Errno(-pid) }
            return pid
        }

        /// Waits until the agent has taken so many datagrams, whatever became of them.
        private func summary(_ sandbox: Sandbox, after count: Int) throws -> AgentFindings {
            var summary: AgentFindings?
            #expect(
                try eventually { () throws in
                    summary = try AgentFindings.read(from: RunFolder(path: sandbox.runFolder))
                    guard let totals = summary?.totals else { return false }
                    return totals.notices + totals.limited + totals.invalid >= UInt64(count)
                })
            return try #require(summary)
        }

        private func stop(_ agent: RunningProgram) {
            agent.signal(SIGTERM)
            #expect(agent.wait().status == 0)
        }

        // MARK: - Who, and what

        @Test func theKernelSaysWhoReported() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let pid = try send(datagram(.lostRace, count: 7), to: sandbox)
                let report = try #require(try summary(sandbox, after: 1).conflicts.first)
                #expect(report.count == 7)
                #expect(report.last.sender.pid == pid)
                #expect(report.last.sender.uid == Self.nobody)
                #expect(report.last.notice.kind == .lostRace)
                #expect(report.last.notice.tuple.local == Endpoint("127.0.0.1:5000"))
                #expect(
                    eventually {
                        agent.errorsSoFar.contains(
                            "connectx: 127.0.0.1:5000 -> 127.0.0.2:53 (udp), reported 7 times by")
                    })
                #expect(agent.errorsSoFar.contains("(pid \(pid), uid 65534)"))
                stop(agent)
            }
        }

        @Test func conflictsAndStatsShowBothSources() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                try send(datagram(), to: sandbox)
                _ = try summary(sandbox, after: 1)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                try send(datagram(.exhausted, port: 0, count: 3), to: sandbox)
                _ = try summary(sandbox, after: 2)

                let json = try jsonObject(try sandbox.tupleguard("conflicts", "--json").output)
                let namespace = try sandbox.namespaceCookie()
                let conflicts = try #require(json["conflicts"] as? [[String: Any]]).filter {
                    let found = ($0["last"] as? [String: Any])?["network_namespace"] as? UInt32
                    return $0["source"] as? String == "connectx" || found == namespace
                }
                #expect(
                    conflicts.map { $0["source"] as? String } == [
                        "connectx", "guard", "connectx",
                    ])
                let reasons = conflicts.map { ($0["last"] as? [String: Any])?["reason"] as? String }
                #expect(reasons == ["exhausted", "held", "conflict"])

                let text = try sandbox.tupleguard("conflicts").output
                #expect(text.contains("no port left for 127.0.0.2:53 (connectx, udp)\n"))
                #expect(text.contains("127.0.0.1:5000 -> 127.0.0.2:53 (connectx, udp)\n"))
                #expect(text.contains("127.0.0.1:5000 -> 127.0.0.1:6000\n"))
                let one = try jsonObject(
                    try sandbox.tupleguard("conflicts", "--json", "--limit", "1").output)
                #expect((one["conflicts"] as? [Any])?.count == 1)

                let stats = try jsonObject(try sandbox.tupleguard("stats", "--json").output)
                let reported = try #require(stats["connectx"] as? [String: Int])
                #expect(reported["conflict"] == 1)
                #expect(reported["exhausted"] == 3)
                #expect((stats["total"] as? [String: Int])?["refused_held"] == 1)
                #expect(try sandbox.tupleguard("stats").output.contains("CONNECTX"))
                stop(agent)
            }
        }

        @Test(arguments: [false, true]) func followersGetThem(_ asJSON: Bool) throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let follower = try sandbox.start(
                    tupleguard, ["conflicts", "--follow"] + (asJSON ? ["--json"] : []))
                let expected =
                    asJSON
                    ? #""source":"connectx""#
                    : "connectx: 127.0.0.1:5000 -> 127.0.0.2:53 (udp), reported by"
                // Now and then until the follower has joined and seen one.
                #expect(
                    try eventually { () throws in
                        try send(datagram(), to: sandbox)
                        return follower.outputSoFar.contains(expected)
                    })
                stop(agent)
                _ = follower.wait()
            }
        }

        @Test func aConnectThatConflictsIsReported() throws {
            try Sandbox.run { sandbox in
                let holder = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(holder.connect("127.0.0.1:6000") == nil)
                func connect() throws -> Sandbox.Outcome {
                    try sandbox.command(
                        tupleguard, ["connect", "udp", "127.0.0.1:5000", "127.0.0.1:6000"],
                        asNobody: true)
                }
                let without = try connect()
                #expect(without.status != 0)
                let agent = try sandbox.startAgent()
                let with = try connect()
                // No agent, nothing to notice: the caller is told the same.
                #expect(with.status == without.status)
                #expect(with.errors == without.errors)
                let report = try #require(try summary(sandbox, after: 1).conflicts.first)
                #expect(report.last.notice.tuple.local == Endpoint("127.0.0.1:5000"))
                #expect(report.last.notice.tuple.remote == Endpoint("127.0.0.1:6000"))
                #expect(report.last.sender.uid == Self.nobody)
                stop(agent)
            }
        }

        /// In one second so many that some are only counted; later ones are heard again.
        @Test func whoConflictsAgainAndAgainIsHeardAgainAndAgain() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let program = try IntegrationTests.ConnectxFromC().python(
                    sandbox,
                    """
                    to, mine, holder = ('127.0.0.1', 9), ('127.0.0.1', 42000), udp()
                    assert attempt(holder, to, mine) == 'ok'
                    while attempt(udp(), to, mine) == 'EADDRINUSE': time.sleep(0.01)
                    """, in: sandbox.outside)
                sandbox.endWithSandbox(program)
                let isHeard = try eventually { () throws in
                    let findings = try AgentFindings.read(from: RunFolder(path: sandbox.runFolder))
                    return findings?.conflicts.first.map { $0.count > 60 } ?? false
                }
                #expect(isHeard, "\(program.errorsSoFar)")
                stop(agent)
            }
        }

        /// What is said again within seconds is only counted, until the agent ends.
        @Test func whatWasCountedIsSaidAtTheEnd() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                try send(datagram(), to: sandbox, times: 5)
                _ = try summary(sandbox, after: 5)
                stop(agent)
                let log = agent.errorsSoFar
                #expect(log.contains("more times in") || log.contains("once more in"), "\(log)")
            }
        }

        // MARK: - Without a guard, without an agent

        @Test func reportsNeedNoGuard() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                #expect(try sandbox.tupleguard("detach", "--all").status == 0)
                try send(datagram(), to: sandbox)
                _ = try summary(sandbox, after: 1)
                let conflicts = try sandbox.tupleguard("conflicts")
                #expect(conflicts.status == 0)
                #expect(conflicts.output.contains("(connectx, udp)"))
                #expect(conflicts.errors.contains("no guard is attached"))
                let stats = try sandbox.tupleguard("stats", "--json")
                #expect(stats.status == 0)
                #expect(
                    (try jsonObject(stats.output)["connectx"] as? [String: Int])?["notices"] == 1)
                stop(agent)
                // Now there is neither.
                #expect(try sandbox.tupleguard("conflicts").status == 1)
            }
        }

        @Test func withoutAnAgentThereIsNothingToSay() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                for command in [["stats"], ["stats", "--json"], ["conflicts"]] {
                    let outcome = try sandbox.command(tupleguard, command)
                    #expect(outcome.status == 0)
                    #expect(outcome.errors == "")
                    #expect(!outcome.output.contains("CONNECTX"))
                    #expect(!outcome.output.contains(#""connectx""#))
                }
            }
        }

        @Test func theSocketComesAndGoesWithTheAgent() throws {
            try Sandbox.run { sandbox in
                var agent = try sandbox.startAgent()
                func mode(_ name: String) -> mode_t? {
                    var status = stat()
                    return stat("\(sandbox.runFolder)/\(name)", &status) == 0
                        ? status.st_mode & 0o777 : nil
                }
                #expect(mode("report.sock") == 0o666)
                // Which it makes when it has said that it is ready.
                #expect(eventually { mode("agent.sock") == 0o600 })
                #expect(mode("") == 0o751)
                agent.signal(SIGKILL)
                #expect(agent.wait().status == 128 + SIGKILL)
                #expect(throws: Errno(ECONNREFUSED)) { try send(datagram(), to: sandbox) }
                agent = try sandbox.startAgent()
                try send(datagram(), to: sandbox)
                #expect(try summary(sandbox, after: 1).totals.notices == 1)
                stop(agent)
                #expect(mode("report.sock") == nil)
                #expect(mode("agent.sock") == nil)
            }
        }

        // MARK: - Hostile senders

        @Test func whatIsNoReportIsCountedAndForgotten() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                func descriptors() -> Int { names(in: "/proc/\(agent.pid)/fd").count }
                let good = datagram()
                try send(good, to: sandbox)
                _ = try summary(sandbox, after: 1)
                let before = descriptors()
                let file = try OwnedDescriptor(path: "/dev/null", flags: O_RDONLY)
                try send([], to: sandbox)
                try send(Array(good.dropLast()), to: sandbox)
                try send(good + [0], to: sandbox)
                try send([UInt8](repeating: 1, count: 100_000), to: sandbox)
                try send(good, to: sandbox, times: 50, descriptor: file.raw)
                let totals = try summary(sandbox, after: 55).totals
                #expect(totals.invalid == 54)
                #expect(totals.notices == 1)
                #expect(descriptors() == before)
                try send(good, to: sandbox)
                #expect(try summary(sandbox, after: 56).totals.notices == 2)
                stop(agent)
            }
        }

        /// One process floods as fast as the agent takes it, another reports meanwhile: every
        /// report of the other is heard, and every datagram is accounted for.
        @Test func aFloodTakesNothingFromOthers() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let memory = residentKilobytes(agent.pid)
                let flood: Int32 = 50_000
                let began = KernelClock.monotonic
                let flooder = Mutex<Result<Int32, any Error>?>(nil)
                let ended = DispatchSemaphore(value: 0)
                Thread.detachNewThread {
                    let result = Result {
                        try send(datagram(.conflict), to: sandbox, times: flood)
                    }
                    flooder.withLock { $0 = result }
                    ended.signal()
                }
                for _ in 0..<4 { try send(datagram(.lostRace), to: sandbox, times: 10, uid: 4321) }
                ended.wait()
                _ = try #require(flooder.withLock { $0 }).get()
                let summary = try self.summary(sandbox, after: Int(flood) + 40)
                let seconds = (KernelClock.monotonic - began) / 1_000_000_000 + 1
                let counts = Dictionary(
                    uniqueKeysWithValues: summary.conflicts.map { ($0.last.sender.uid, $0.count) })
                #expect(counts[4321] == 40)
                let heard = try #require(counts[Self.nobody])
                #expect(heard >= 100)
                // The burst, and what the rate allows since: see ReportLimits.
                #expect(heard <= 100 + 50 * seconds)
                #expect(heard + summary.totals.limited == UInt64(flood))
                #expect(summary.totals.invalid == 0)
                #expect(residentKilobytes(agent.pid) < memory + 16_384)
                let lines = agent.errorsSoFar.split(separator: "\n").count {
                    $0.contains("connectx: ")
                }
                #expect(lines <= 100 * (Int(seconds) + 1))
                stop(agent)
            }
        }

        private func residentKilobytes(_ pid: Int32) -> Int {
            let line = contents(of: "/proc/\(pid)/status")?.split(separator: "\n")
                .first { $0.hasPrefix("VmRSS:") }
            return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
        }
    }
}
