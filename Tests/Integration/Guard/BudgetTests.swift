// SPDX-License-Identifier: Apache-2.0
// How many connections a cgroup may have open: which sockets count, from when, and until when.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Budgets {
        private func policy(_ limit: Int?, whenExhausted: Policy.WhenExhausted = .eaddrnotavail)
            -> Policy
        {
            var policy = Policy()
            policy.maxConnections = limit
            policy.whenExhausted = whenExhausted
            return policy
        }

        /// A server of another cgroup that accepts connections without being asked to.
        private func listen(_ sandbox: Sandbox, at name: String = "127.0.0.1:7000") throws
            -> TestSocket
        {
            let server = try sandbox.socket(.tcp4, bound: name, in: sandbox.outside)
            try Errno.check { Glibc.listen(server.descriptor, 1024) }
            return server
        }

        private func used(_ sandbox: Sandbox, _ cgroup: Cgroup? = nil) throws -> Int? {
            let id = (cgroup ?? sandbox.cgroup).id
            let attachment = try sandbox.state.attachments().first { $0.id == id }
            return try attachment.flatMap { try sandbox.state.connections(of: $0)?.used }
        }

        /// How many new sockets of a kind connect, of so many that try; they stay open.
        private func connected(
            _ count: Int, _ sandbox: Sandbox, _ kind: Sandbox.Kind = .tcp4,
            in cgroup: Cgroup? = nil, to name: String = "127.0.0.1:7000"
        ) throws -> Int {
            try (0..<count).count { _ in
                try sandbox.socket(kind, in: cgroup, sharing: false).connect(name) == nil
            }
        }

        private static let kinds: [(Sandbox.Kind, String)] = [
            (.tcp4, "127.0.0.1:7000"), (.v4, "127.0.0.1:7000"), (.v6, "[::1]:7000"),
        ]

        // MARK: - What counts

        @Test(arguments: 0..<3, Policy.WhenExhausted.allCases)
        func oneMoreIsRefusedUntilOneIsClosed(
            _ kind: Int, _ whenExhausted: Policy.WhenExhausted
        ) throws {
            let (kind, server) = Self.kinds[kind]
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(3, whenExhausted: whenExhausted))
                let open = try (0..<3).map { _ in try sandbox.socket(kind, sharing: false) }
                for socket in open { #expect(socket.connect(server) == nil) }
                let late = try sandbox.socket(kind, sharing: false)
                #expect(late.connect(server) == whenExhausted.rawValue)
                #expect(try used(sandbox) == 3)
                sandbox.close(open[1])
                #expect(try eventually { try used(sandbox) == 2 })
                #expect(late.connect(server) == nil)
                #expect(try used(sandbox) == 3)
                let counters = try sandbox.counters()
                #expect(counters[.refusedBudget] == 1)
                #expect(counters[.counted] == 4)
                #expect(counters[.refusedExhausted] == 0)
            }
        }

        @Test func allKindsOfSocketsShareTheBudget() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(3))
                for (kind, server) in Self.kinds {
                    #expect(try connected(1, sandbox, kind, to: server) == 1)
                }
                for (kind, server) in Self.kinds {
                    #expect(try connected(1, sandbox, kind, to: server) == 0)
                }
            }
        }

        /// Who was refused, to where, and by which guard.
        @Test(arguments: [Sandbox.Kind.tcp4, .v4])
        func aRefusalIsReported(_ kind: Sandbox.Kind) throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(1))
                #expect(try connected(3, sandbox, kind) == 1)
                let conflict = try #require(try sandbox.state.conflicts().first)
                #expect(conflict.count == 2)
                #expect(conflict.last.reason == .budget)
                #expect(conflict.last.action == .refused)
                #expect(conflict.last.tuple.remote == Endpoint("127.0.0.1:7000"))
                #expect(conflict.last.tuple.local.port == 0)
                #expect(conflict.last.claimant?.pid == getpid())
                #expect(conflict.last.guardedCgroupId == sandbox.cgroup.id)
                #expect(conflict.last.holder == nil)
            }
        }

        @Test func observingCountsAndAllows() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                var policy = policy(2)
                policy.mode = .observe
                try sandbox.attach(policy)
                #expect(try connected(3, sandbox, .tcp4) == 3)
                #expect(try connected(1, sandbox, .v4) == 1)
                let counters = try sandbox.counters()
                #expect(counters[.observed] == 2)
                #expect(counters.refused == 0)
                #expect(try used(sandbox) == 2)
            }
        }

        @Test func whatListensAndWhatItAcceptsDoesNotCount() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(2))
                // The server's own cgroup has the budget.
                let server = try sandbox.socket(.tcp4, bound: "127.0.0.1:7000")
                try Errno.check { Glibc.listen(server.descriptor, 16) }
                for _ in 0..<5 {
                    let client = try sandbox.socket(.tcp4, in: sandbox.outside)
                    #expect(client.connect("127.0.0.1:7000") == nil)
                    let accepted = accept(server.descriptor, nil, nil)
                    #expect(accepted >= 0)
                    close(accepted)
                }
                #expect(try used(sandbox) == 0)
                #expect(try connected(3, sandbox) == 2)
            }
        }

        /// Nor what was there before, whether or not it is closed meanwhile.
        @Test func whatConnectedBeforeTheGuardDoesNotCount() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                let old = try (0..<3).map { _ in try sandbox.socket(.tcp4) }
                for socket in old { #expect(socket.connect("127.0.0.1:7000") == nil) }
                try sandbox.attach(policy(2))
                #expect(try used(sandbox) == 0)
                for socket in old { sandbox.close(socket) }
                #expect(try connected(3, sandbox) == 2)
                #expect(try used(sandbox) == 2)
            }
        }

        @Test func otherCgroupsAreNotCounted() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(1))
                #expect(try connected(3, sandbox, in: sandbox.outside) == 3)
                #expect(try connected(2, sandbox) == 1)
            }
        }

        // MARK: - How long it counts

        @Test(arguments: [Sandbox.Kind.v4, .v6])
        func aSocketCountsOnceHoweverOftenItConnects(_ kind: Sandbox.Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(2))
                let socket = try sandbox.socket(kind, sharing: false)
                let address = kind == .v4 ? "127.0.0.1" : "[::1]"
                for port in 7000..<7020 { #expect(socket.connect("\(address):\(port)") == nil) }
                #expect(try used(sandbox) == 1)
                #expect(try connected(2, sandbox, kind, to: "\(address):7000") == 1)
                // Full: those that count already may go elsewhere all the same.
                #expect(socket.connect("\(address):7021") == nil)
            }
        }

        @Test(arguments: [Sandbox.Kind.tcp4, .v4])
        func aDisconnectedSocketDoesNotCount(_ kind: Sandbox.Kind) throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(2))
                let a = try sandbox.socket(kind, sharing: false)
                let b = try sandbox.socket(kind, sharing: false)
                let c = try sandbox.socket(kind, sharing: false)
                #expect(a.connect("127.0.0.1:7000") == nil)
                #expect(b.connect("127.0.0.1:7000") == nil)
                #expect(c.connect("127.0.0.1:7000") == "EADDRNOTAVAIL")
                try a.disconnect()
                #expect(c.connect("127.0.0.1:7000") == nil)
                // And has to ask again.
                #expect(a.connect("127.0.0.1:7000") == "EADDRNOTAVAIL")
                try b.disconnect()
                #expect(a.connect("127.0.0.1:7000") == nil)
                #expect(try used(sandbox) == 2)
                #expect(try sandbox.counters()[.uncounted] == 2)
            }
        }

        /// Connects of a thread are over when it is elsewhere, however many a socket had.
        @Test func aSocketThatConnectedTwiceDoesNotCount() throws {
            try Sandbox.run { sandbox in
                var patient = policy(1)
                patient.graceNanoseconds = 3_600_000_000_000
                try sandbox.attach(patient)
                let a = try sandbox.socket(sharing: false)
                #expect(a.connect("127.0.0.1:7000") == nil)
                #expect(a.connect("127.0.0.1:7001") == nil)
                try a.disconnect()
                let b = try sandbox.socket(sharing: false)
                #expect(b.connect("127.0.0.1:7000") == nil)
                #expect(try used(sandbox) == 1)
            }
        }

        /// Connects that fail after the guard has let them through.
        @Test(arguments: [
            (Sandbox.Kind.tcp4, "127.0.0.1:7999", "ECONNREFUSED"),
            (.tcp4, "203.0.113.1:7000", "ENETUNREACH"),
            (.v4, "203.0.113.1:7000", "ENETUNREACH"),
            (.v6, "[2001:db8::1]:7000", "ENETUNREACH"),
        ])
        func aConnectThatFailsDoesNotCount(
            _ kind: Sandbox.Kind, _ server: String, _ error: String
        ) throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(2))
                for _ in 0..<10 {
                    #expect(try sandbox.socket(kind, sharing: false).connect(server) == error)
                }
                // All of them are open still.
                #expect(try connected(3, sandbox) == 2)
            }
        }

        /// The guard's own refusals do not count either.
        @Test func whatIsRefusedForItsTupleDoesNotCount() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(2))
                let holder = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(holder.connect("127.0.0.1:6000") == nil)
                for _ in 0..<5 {
                    let second = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(second.connect("127.0.0.1:6000") == "EPERM")
                }
                #expect(try used(sandbox) == 1)
                #expect(try sandbox.counters()[.refusedBudget] == 0)
            }
        }

        @Test func aNonBlockingConnectCountsWhileItIsUnderWay() throws {
            try Sandbox.run { sandbox in
                // Whose queue is full answers nobody else.
                let server = try sandbox.socket(
                    .tcp4, bound: "127.0.0.1:7000", in: sandbox.outside)
                try Errno.check { Glibc.listen(server.descriptor, 0) }
                #expect(try connected(1, sandbox, in: sandbox.outside) == 1)
                try sandbox.attach(policy(1))
                let waiting = try sandbox.socket(.tcp4)
                #expect(fcntl(waiting.descriptor, F_SETFL, O_NONBLOCK) == 0)
                #expect(waiting.connect("127.0.0.1:7000") == "EINPROGRESS")
                #expect(waiting.connect("127.0.0.1:7000") == "EALREADY")
                #expect(try connected(1, sandbox, .v4) == 0)
                try waiting.disconnect()
                #expect(try connected(1, sandbox, .v4) == 1)
            }
        }

        /// shutdown() alone ends nothing; the connection's end does.
        @Test func aConnectionThatHasEndedDoesNotCount() throws {
            try Sandbox.run { sandbox in
                let server = try listen(sandbox)
                try sandbox.attach(policy(1))
                let client = try sandbox.socket(.tcp4)
                #expect(client.connect("127.0.0.1:7000") == nil)
                #expect(shutdown(client.descriptor, Int32(SHUT_WR)) == 0)
                #expect(try connected(1, sandbox, .v4) == 0)
                let accepted = accept(server.descriptor, nil, nil)
                #expect(accepted >= 0)
                close(accepted)
                #expect(try eventually { try connected(1, sandbox, .v4) == 1 })
            }
        }

        /// A descriptor more, wherever it is, changes nothing; the last one's end does.
        @Test func aSocketCountsUntilItsLastDescriptorIsClosed() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(1))
                let socket = try sandbox.socket(.tcp4)
                #expect(socket.connect("127.0.0.1:7000") == nil)
                let copy = dup(socket.descriptor)
                sandbox.close(socket)
                #expect(try connected(1, sandbox) == 0)
                sandbox.whileNobodyStarts { _ = close(copy) }
                #expect(try eventually { try used(sandbox) == 0 })
            }
        }

        @Test func aKilledProgramsConnectionsDoNotCount() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(20))
                let script = """
                    import socket, time
                    kept = [socket.create_connection(('127.0.0.1', 7000)) for _ in range(10)]
                    for _ in range(10):
                        s = socket.socket(type=socket.SOCK_DGRAM)
                        s.connect(('127.0.0.1', 7000))
                        kept.append(s)
                    print('there', flush=True)
                    time.sleep(10000)
                    """
                let program = try sandbox.start(
                    "/usr/bin/python3", ["-c", script], in: sandbox.cgroup)
                sandbox.endWithSandbox(program)
                #expect(eventually { program.outputSoFar.contains("there") })
                #expect(try used(sandbox) == 20)
                #expect(try connected(1, sandbox) == 0)
                program.end()
                #expect(try eventually { try used(sandbox) == 0 })
                #expect(try connected(21, sandbox) == 20)
            }
        }

        // MARK: - Several guards, and other policies

        @Test func eachOfNestedGuardsHasItsOwnBudget() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                let child = try sandbox.makeChild("child")
                try sandbox.attach(policy(3))
                try sandbox.attach(policy(2), to: child)
                #expect(try connected(3, sandbox, in: child) == 2)
                #expect(try used(sandbox) == 2)
                #expect(try connected(2, sandbox) == 1)
                // The parent refuses what the child's budget allows, and then it has room still.
                try sandbox.replace(policy(9), to: child)
                #expect(try connected(3, sandbox, in: child) == 0)
                #expect(try used(sandbox) == 3)
            }
        }

        @Test func anotherLimitGoesOnWithTheCount() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(4))
                let open = try (0..<4).map { _ in try sandbox.socket(.tcp4) }
                for socket in open { #expect(socket.connect("127.0.0.1:7000") == nil) }
                // Nobody is cut off, and nobody comes in.
                try sandbox.replace(policy(2))
                #expect(try used(sandbox) == 4)
                #expect(try connected(1, sandbox) == 0)
                for socket in open.prefix(2) { sandbox.close(socket) }
                #expect(try eventually { try used(sandbox) == 2 })
                #expect(try connected(1, sandbox) == 0)
                // Disconnected, and not closed: both are found, under the lowered limit too.
                for socket in open.suffix(2) { try socket.disconnect() }
                #expect(try connected(3, sandbox) == 2)
                try sandbox.replace(policy(5))
                #expect(try connected(4, sandbox) == 3)
                #expect(try used(sandbox) == 5)
            }
        }

        @Test func aLimitIsLiftedAndComesBack() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(1))
                #expect(try connected(2, sandbox) == 1)
                try sandbox.replace(policy(nil))
                #expect(try used(sandbox) == nil)
                #expect(try connected(3, sandbox) == 3)
                try sandbox.replace(policy(1))
                // What connected before it came back does not count.
                #expect(try used(sandbox) == 0)
                #expect(try connected(2, sandbox) == 1)
            }
        }

        @Test func aLimitThatTheCountHasNoRoomForIsRefused() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(1))
                #expect(try connected(2, sandbox) == 1)
                #expect(throws: GuardError.budgetOutgrown(asked: 100_000, most: 4096)) {
                    try sandbox.replace(policy(100_000))
                }
                #expect(try connected(1, sandbox) == 0)
                try sandbox.replace(policy(4096))
                #expect(try connected(1, sandbox) == 1)
                #expect(try used(sandbox) == 2)
            }
        }

        // MARK: - What the command says

        @Test func theCommandTellsWhatIsOpenAndWhatWasRefused() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(2))
                #expect(try connected(5, sandbox) == 2)
                #expect(try connected(1, sandbox, .v4) == 0)
                let status = try sandbox.tupleguard("status", "--json").json
                let guarded = (status["guarded"] as? [JSONObject])?.first
                #expect(guarded?["max_connections"] as? Int == 2)
                #expect(guarded?["connections"] as? Int == 2)
                #expect(try sandbox.tupleguard("status").output.contains("2 of 2"))
                let stats = try sandbox.tupleguard("stats", "--json").json
                let cgroup = (stats["cgroups"] as? [JSONObject])?.first
                #expect(cgroup?["connections"] as? [String: Int] == ["used": 2, "limit": 2])
                let refused = stats["over_budget"] as? [JSONObject] ?? []
                #expect(Set(refused.compactMap { $0["transport"] as? String }) == ["tcp", "udp"])
                #expect(Set(refused.compactMap { $0["count"] as? Int }) == [3, 1])
                #expect((stats["exhausted"] as? [JSONObject])?.isEmpty == true)
                let conflicts = try sandbox.tupleguard("conflicts").output
                #expect(conflicts.contains("no connection left for 127.0.0.1:7000 (tcp)"))
                let metrics = try sandbox.tupleguard("metrics").output
                for name in ["tupleguard_connections", "tupleguard_connections_limit"] {
                    #expect(metrics.contains("\(name){cgroup=\"\(sandbox.cgroup.path)\"} 2\n"))
                }
                let doctor = try sandbox.tupleguard(
                    "doctor", "--json", "--sample", "0", "--namespace", "self")
                let findings = try doctor.json["findings"] as? [JSONObject] ?? []
                let finding = findings.first { $0["kind"] as? String == "connections-filling" }
                #expect(finding?["severity"] as? String == "critical")
                let numbers = finding?["numbers"] as? [String: Int]
                #expect(numbers == ["used": 2, "possible": 2, "refused": 4])
                #expect(doctor.status == 2)
            }
        }

        @Test func aCommandMayHaveABudget() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import errno, socket
                    kept = []
                    for _ in range(3):
                        s = socket.socket(type=socket.SOCK_DGRAM)
                        try: s.connect(('127.0.0.1', 7000)); kept.append(s)
                        except OSError as error: print(errno.errorcode[error.errno])
                    print(len(kept))
                    """
                let outcome = try sandbox.tupleguard(
                    "exec", "--max-connections", "2", "--quiet", "--", "/usr/bin/python3", "-c",
                    script)
                #expect(outcome.output == "EADDRNOTAVAIL\n2\n")
                #expect(outcome.status == 0)
            }
        }

        /// An upgrade of the programs keeps the count.
        @Test func anUpgradeGoesOnWithTheCount() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(3))
                #expect(try connected(2, sandbox) == 2)
                let attachment = try #require(try sandbox.state.attachments().first)
                try sandbox.state.upgrade(attachment, of: sandbox.cgroup)
                #expect(try used(sandbox) == 2)
                #expect(try connected(2, sandbox) == 1)
            }
        }
    }
}

extension Sandbox {
    /// Gives a guarded cgroup another policy.
    fileprivate func replace(_ policy: Policy, to cgroup: Cgroup? = nil) throws {
        try state.attach(cgroup ?? self.cgroup, policy: policy, replacing: true)
    }
}
