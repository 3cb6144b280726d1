// SPDX-License-Identifier: Apache-2.0
// Ports of a cgroup's own and budgets of connections together: ways to connect that are not plain
// connect(), sockets that change hands, agents that come and go, and what the command says.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Limits {
        private static let own: ClosedRange<UInt16> = 20000...20009

        private func policy(ports: ClosedRange<UInt16>? = nil, connections: Int? = nil) -> Policy {
            var policy = Policy()
            policy.ports = ports
            policy.maxConnections = connections
            return policy
        }

        /// A server of another cgroup that accepts connections without being asked to.
        private func listen(_ sandbox: Sandbox) throws -> TestSocket {
            let server = try sandbox.socket(.tcp4, bound: "127.0.0.1:7000", in: sandbox.outside)
            // TCP_FASTOPEN, for requests that are not accepted yet.
            try server.set(Int32(IPPROTO_TCP), 23, 100)
            try Errno.check { Glibc.listen(server.descriptor, 1024) }
            return server
        }

        private func used(_ sandbox: Sandbox, _ cgroup: Cgroup? = nil) throws -> Int? {
            let id = (cgroup ?? sandbox.cgroup).id
            let attachment = try sandbox.state.attachments().first { $0.id == id }
            return try attachment.flatMap { try sandbox.state.connections(of: $0)?.used }
        }

        // MARK: - Ways to connect

        enum Way: String, CaseIterable {
            case plain
            /// sendto() on a socket that is not connected (tcp(7)).
            case sendto
            /// connect() sends nothing, the first write() does.
            case deferred
            case multipath
        }

        /// Python that connects so many sockets and keeps them; it prints a line for each, its port
        /// or the errno.
        private static func dial(_ way: Way, _ count: Int) -> String {
            """
            import errno, socket
            server = ('127.0.0.1', 7000)
            kept = []
            for _ in range(\(count)):
                try:
                    protocol = 262 if '\(way.rawValue)' == 'multipath' else 0
                    kept.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol))
                    if '\(way.rawValue)' == 'sendto':
                        kept[-1].sendto(b'x', socket.MSG_FASTOPEN, server)
                    else:
                        if '\(way.rawValue)' == 'deferred':
                            kept[-1].setsockopt(socket.IPPROTO_TCP, 30, 1)
                        kept[-1].connect(server)
                        kept[-1].send(b'x')
                    print(kept[-1].getsockname()[1])
                except OSError as error:
                    print(errno.errorcode[error.errno])
            """
        }

        /// What came of each; nil where the kernel has no such sockets.
        private func dial(_ way: Way, _ count: Int, _ sandbox: Sandbox) throws -> [String]? {
            let outcome = try sandbox.command(
                "/usr/bin/python3", ["-c", Self.dial(way, count)], in: sandbox.cgroup)
            #expect(outcome.status == 0, "\(outcome.errors)")
            let lines = outcome.output.split(separator: "\n").map { String($0) }
            return lines.contains("EPROTONOSUPPORT") ? nil : lines
        }

        /// A server that gives out cookies for Fast Open, and a client that has one.
        private func run(_ way: Way, _ policy: Policy, _ body: (Sandbox) throws -> Void) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.tcp_fastopen", "3")
                let server = try listen(sandbox)
                _ = try dial(way, 1, sandbox)
                try sandbox.attach(policy, tableSize: 4096)
                try body(sandbox)
                sandbox.close(server)
            }
        }

        @Test(arguments: Way.allCases)
        func ownPorts(_ way: Way) throws {
            try run(way, policy(ports: Self.own)) { sandbox in
                guard let lines = try dial(way, 12, sandbox) else { return }
                #expect(Set(lines.compactMap { UInt16($0) }) == Set(Self.own))
                #expect(lines.suffix(2) == ["EADDRNOTAVAIL", "EADDRNOTAVAIL"])
                let counters = try sandbox.counters()
                #expect(counters[.givenTCP] == 10)
                #expect(counters[.refusedExhaustedTCP] == 2)
            }
        }

        /// What has ended leaves its place to others, though no hook may have told so.
        @Test(arguments: Way.allCases)
        func aBudget(_ way: Way) throws {
            try run(way, policy(connections: 3)) { sandbox in
                for round in 1...3 {
                    guard let lines = try dial(way, 5, sandbox) else { return }
                    #expect(lines.compactMap { UInt16($0) }.count == 3, "\(lines)")
                    #expect(lines.suffix(2) == ["EADDRNOTAVAIL", "EADDRNOTAVAIL"])
                    let counters = try sandbox.counters()
                    #expect(counters[.counted] == UInt64(3 * round))
                    #expect(counters[.refusedBudget] == UInt64(2 * round))
                }
            }
        }

        // MARK: - Sockets and processes that change hands

        /// A parent inside and its child outside hand each other sockets. Prints how many count in
        /// the first cgroup and in the second, after each step.
        private static let handOver = """
            import json, os, socket, subprocess, sys
            inside, outside, second, command = sys.argv[1:]
            server = ('127.0.0.1', 7000)
            def enter(cgroup): open(cgroup + '/cgroup.procs', 'w').write('0')
            def used():
                status = json.loads(subprocess.check_output([command, 'status', '--json']))
                counts = {g['cgroup']: g['connections'] for g in status['guarded']}
                return [counts[c] for c in sorted(counts, key=lambda c: not inside.endswith(c))]
            def say(step): print(step, *used(), flush=True)
            ours, theirs = socket.socketpair()
            child = os.fork()
            if child == 0:
                ours.close()
                enter(outside)
                kept = []
                while True:
                    order, handed, _, _ = socket.recv_fds(theirs, 10, 1)
                    kept += [socket.socket(fileno=fd) for fd in handed]
                    if order == b'connect': kept[-1].connect(server)
                    if order == b'close': kept.pop().close()
                    if order == b'make':
                        made = socket.socket()
                        socket.send_fds(theirs, [b'made'], [made.fileno()])
                        made.close()
                    elif not order or order == b'end': os._exit(0)
                    else: theirs.send(b'done')
            theirs.close()
            def order(what, *handed):
                socket.send_fds(ours, [what], [s.fileno() for s in handed])
                return ours.recv(10)
            enter(inside)
            first = socket.socket()
            order(b'connect', first); say('connected by another')
            first.close(); say('closed here, open there')
            order(b'close'); say('closed there')
            socket.send_fds(ours, [b'make'], [])
            _, handed, _, _ = socket.recv_fds(ours, 10, 1)
            stranger = socket.socket(fileno=handed[0])
            stranger.connect(server); say('made outside')
            kept = socket.socket()
            kept.connect(server); order(b'keep', kept); kept.close(); say('handed over')
            socket.send_fds(ours, [b'end'], [])
            os.waitpid(child, 0); say('its last owner ended')
            mine = socket.socket()
            enter(second)
            mine.connect(server); say('moved, then connected')
            new = socket.socket()
            new.connect(server); say('made and connected there')
            mine.close(); say('the first is closed')
            new.close(); say('all are closed')
            """

        /// A socket counts where it was made, whoever connects or closes it, and wherever he is.
        @Test func socketsThatChangeHands() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                let second = try sandbox.makeSibling("second")
                try sandbox.attach(policy(connections: 5))
                try sandbox.attach(policy(connections: 5), to: second)
                let outcome = try sandbox.command(
                    "/usr/bin/python3",
                    [
                        "-c", Self.handOver, sandbox.cgroup.folder, sandbox.outside.folder,
                        second.folder, Sandbox.program("tupleguard"),
                    ])
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(
                    outcome.output == """
                        connected by another 1 0
                        closed here, open there 1 0
                        closed there 0 0
                        made outside 0 0
                        handed over 1 0
                        its last owner ended 0 0
                        moved, then connected 1 0
                        made and connected there 1 1
                        the first is closed 0 1
                        all are closed 0 0

                        """)
            }
        }

        // MARK: - Agents

        /// How many more connect, and from which ports; they stay open.
        private func connect(_ count: Int, _ sandbox: Sandbox) throws -> [TestSocket] {
            try (0..<count).compactMap { _ in
                let socket = try sandbox.socket(.tcp4, sharing: false)
                return socket.connect("127.0.0.1:7000") == nil ? socket : nil
            }
        }

        @Test func anAgentIsReloadedKilledAndStartedAgain() throws {
            try withTemporaryFolder { folder in
                try Sandbox.run { sandbox in
                    _ = try listen(sandbox)
                    let file = "\(folder)/tupleguard.conf"
                    func write(_ ports: String, _ connections: Int) throws {
                        unlink(file)
                        try makeFile(
                            file,
                            "cgroup = \(sandbox.cgroup.path)\nports = \(ports)\nmax-connections = \(connections)\n"
                        )
                    }
                    func start() throws -> RunningProgram {
                        let agent = try sandbox.start(
                            Sandbox.program("tupleguard"), ["run", "--config", file])
                        sandbox.endWithSandbox(agent)
                        #expect(eventually { agent.errorsSoFar.contains("ready, guarding 1 of 1") })
                        return agent
                    }
                    try write("20000-20009", 3)
                    let agent = try start()
                    var open = try connect(4, sandbox)
                    #expect(open.count == 3)

                    // Another limit and other ports: what is open goes on counting.
                    try write("20010-20019", 5)
                    agent.signal(SIGHUP)
                    #expect(eventually { agent.errorsSoFar.contains("reloaded, guarding 1 of 1") })
                    #expect(try used(sandbox) == 3)
                    open += try connect(3, sandbox)
                    #expect(open.count == 5)
                    #expect(
                        open.map { Self.own.contains($0.local!.port) }
                            == [true, true, true, false, false])

                    // Without an agent the guard counts all the same.
                    agent.end()
                    sandbox.close(open.removeFirst())
                    #expect(try eventually { try used(sandbox) == 4 })
                    open += try connect(2, sandbox)
                    #expect(open.count == 5)
                    sandbox.close(open.removeLast())
                    #expect(try eventually { try used(sandbox) == 4 })

                    let next = try start()
                    #expect(try used(sandbox) == 4)
                    open += try connect(2, sandbox)
                    #expect(open.count == 5)
                    #expect((20010...20019).contains(open.last!.local!.port))
                    let counters = try sandbox.counters()
                    #expect(counters[.givenTCP] >= 7)
                    #expect(counters[.refusedBudget] == 4)
                    for socket in open { sandbox.close(socket) }
                    #expect(try eventually { try used(sandbox) == 0 })
                    next.signal(SIGTERM)
                    #expect(next.wait().status == 0)
                }
            }
        }

        /// What one destination was refused for its number, and what for want of a port.
        @Test func conflictsTellWhich() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(ports: Self.own, connections: 4), tableSize: 4096)
                _ = try dial(.plain, 6, sandbox)
                // The server has not closed: those four have their ports still (FIN_WAIT2).
                try sandbox.state.attach(
                    sandbox.cgroup, policy: policy(ports: Self.own, connections: 20),
                    replacing: true)
                _ = try dial(.plain, 9, sandbox)
                let conflicts = try sandbox.state.conflicts()
                let counts = Dictionary(
                    conflicts.map { ($0.last.reason, $0.count) }, uniquingKeysWith: +)
                #expect(counts == [.budget: 2, .exhausted: 3], "\(conflicts)")
            }
        }

        // MARK: - What the command says

        /// Who may not bind to them gets none, and is told so before.
        @Test func privilegedPorts() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                func ports(_ range: String) throws -> (ports: [String], remark: String) {
                    let outcome = try sandbox.command(
                        Sandbox.program("tupleguard"),
                        [
                            "exec", "--quiet", "--ports", range, "--", "setpriv", "--reuid=65534",
                            "--clear-groups", "--regid=65534", "/usr/bin/python3", "-c",
                            Self.dial(.plain, 12),
                        ])
                    let attached = try sandbox.tupleguard(
                        "attach", "--ports", range, sandbox.cgroup.folder)
                    #expect(attached.status == 0, "\(attached.errors)")
                    try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                    return (
                        outcome.output.split(separator: "\n").map { String($0) }, attached.errors
                    )
                }
                let some = try ports("1020-1029")
                #expect(Set(some.ports.compactMap { UInt16($0) }) == Set(1024...1029))
                #expect(some.remark.contains("ports 1020-1023 are privileged"), "\(some.remark)")
                #expect(some.remark.contains("those from 1024 on"))
                let none = try ports("900-909")
                #expect(Set(none.ports) == ["EADDRNOTAVAIL"])
                #expect(none.remark.contains("ports 900-909 are privileged"), "\(none.remark)")
                try sandbox.sysctl("net.ipv4.ip_unprivileged_port_start", "900")
                let all = try ports("900-909")
                #expect(Set(all.ports.compactMap { UInt16($0) }) == Set(900...909))
                #expect(!all.remark.contains("privileged"), "\(all.remark)")
            }
        }

        @Test func topShowsThem() throws {
            try Sandbox.run { sandbox in
                _ = try listen(sandbox)
                try sandbox.attach(policy(ports: 23480...23489, connections: 8))
                #expect(try connect(8, sandbox).count == 8)
                let frame = try sandbox.tupleguard("top", "--namespace", "self").output
                let words = frame.split(separator: "\n").first { $0.hasPrefix("23480-23489") }?
                    .split(separator: " ").prefix(6).map { String($0) }
                #expect(words == ["23480-23489", "8", "0", "8", "of", "8"], "\(frame)")
            }
        }
    }
}
