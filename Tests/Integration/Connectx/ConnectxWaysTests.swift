// SPDX-License-Identifier: Apache-2.0
// The ways to connect besides the plain one: not blocking, async, with first
// data, to several destinations, under a guard.

import CTupleguardLinux
import Connectx
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct ConnectxWays {
        // MARK: - TCP

        @Test func notBlocking() throws {
            let deaf = try DeafListener()
            let connection = try Connectx.open(.tcp, to: deaf.endpoint)
            #expect(connection.outcome.state == .inProgress)
            #expect(fcntl(connection.descriptor.raw, F_GETFL) & O_NONBLOCK != 0)
        }

        @Test func giveUpInTime() throws {
            let deaf = try DeafListener()
            var options = Connectx.Options()
            options.timeout = .milliseconds(50)
            let error = failure { () throws(ConnectError) in
                _ = try Connectx.connectBlocking(.tcp, to: deaf.endpoint, options: options)
            }
            #expect(error?.reason == .timedOut)
            #expect(error?.errno == ETIMEDOUT)
        }

        @Test func inTimeTheSocketBlocksAsOthersDo() throws {
            let server = try EchoServer(.tcp4, port: 0)
            var options = Connectx.Options()
            options.timeout = .seconds(60)
            let connection = try Connectx.connectBlocking(
                .tcp, to: server.endpoint, options: options)
            #expect(connection.outcome.state == .connected)
            #expect(fcntl(connection.descriptor.raw, F_GETFL) & O_NONBLOCK == 0)
            #expect(server.echoes(over: [connection.descriptor.raw]))
        }

        @Test func nobodyListens() throws {
            let free = try rawSocket(.tcp4, bound: Kind.tcp4.endpoint(0))
            let endpoint = try Endpoint { getsockname(free.raw, $0, $1) }
            for options in [
                Connectx.Options(),
                {
                    var o = $0
                    o.timeout = .seconds(60)
                    return o
                }(Connectx.Options()),
            ] {
                let error = failure { () throws(ConnectError) in
                    _ = try Connectx.connectBlocking(.tcp, to: endpoint, options: options)
                }
                #expect(error?.reason == .connectFailed)
                #expect(error?.errno == ECONNREFUSED)
            }
        }

        @Test(arguments: [Kind.tcp4, .tcp6])
        func theOlderWay(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41015")
                    let servers = try [50_001, 50_002].map { try EchoServer(kind, port: $0) }
                    var options = Connectx.Options()
                    options.strategy = .bindRetry
                    let held = Held()
                    // Half of the ports busy for the first destination: it works, in most cases at
                    // once.
                    for server in servers {
                        for _ in 0..<8 {
                            let connection = try Connectx.connectBlocking(
                                .tcp, to: server.endpoint, from: Source(address: kind.loopback),
                                options: options)
                            #expect(connection.technique == .bindRetry)
                            held.keep(connection)
                        }
                    }
                    #expect(Set(held.all.map(\.tuple)).count == 16)
                    #expect(servers[0].echoes(over: Array(held.sockets[..<8])))
                }
            }
        }

        @Test func theOlderWayEnds() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41001")
                    let server = try EchoServer(.tcp4, port: 50_001)
                    var options = Connectx.Options()
                    options.strategy = .bindRetry
                    var error: ConnectError?
                    let held = Held()
                    for _ in 0..<3 where error == nil {
                        error = failure { () throws(ConnectError) in
                            held.keep(
                                try Connectx.connectBlocking(
                                    .tcp, to: server.endpoint,
                                    from: Source(address: Kind.tcp4.loopback), options: options))
                        }
                    }
                    #expect(error?.reason == .exhausted)
                    #expect(error?.errno == EADDRNOTAVAIL)
                }
            }
        }

        @Test func firstDataArrives() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("tcp_fastopen", "3")
                    let server = try EchoServer(.tcp4, port: 50_001)
                    var queue: Int32 = 16
                    try server.set(IPPROTO_TCP, 23, &queue)  // TCP_FASTOPEN
                    var options = Connectx.Options()
                    options.firstData = .fastOpen(Array("message 0".utf8))
                    // The first connection gets the cookie, the second uses it.
                    for _ in 0..<2 {
                        let connection = try Connectx.connectBlocking(
                            .tcp, to: server.endpoint, options: options)
                        #expect(connection.technique == .fastOpen)
                        #expect(connection.outcome.sent == 9)
                        #expect(server.bounceNext())
                        #expect(read(connection) == "message 0")
                    }
                    #expect(counter("TCPFastOpenActive") == 1)
                }
            }
        }

        @Test func theFirstWriteOpensADeferredConnection() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("tcp_fastopen", "3")
                    let server = try EchoServer(.tcp4, port: 50_001)
                    var queue: Int32 = 16
                    try server.set(IPPROTO_TCP, 23, &queue)
                    var options = Connectx.Options()
                    options.firstData = .deferred
                    // The first has no cookie yet: it is opened at once, and says so.
                    for isDeferred in [false, true] {
                        let connection = try Connectx.connectBlocking(
                            .tcp, to: server.endpoint, options: options)
                        #expect(connection.outcome.state == (isDeferred ? .deferred : .connected))
                        #expect(connection.technique == (isDeferred ? .fastOpen : .plain))
                        #expect(send(connection.descriptor.raw, "message 0", 9, 0) == 9)
                        #expect(server.bounceNext())
                        #expect(read(connection) == "message 0")
                    }
                }
            }
        }

        /// With a timeout, async, without Fast Open, over UDP: what is given arrives, once.
        @Test(arguments: [Transport.tcp, .udp], [1, 1_000_000])
        func firstDataArrivesEveryWay(_ transport: Transport, size: Int) async throws {
            let size = transport == .udp ? min(size, 60_000) : size
            let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let server = try DataServer(transport)
            for way in 0..<3 {
                var options = Connectx.Options()
                options.firstData = .fastOpen(data)
                let received = Task.detached { server.receive(size) }
                let connection: Connectx.Connection
                switch way {
                case 0: connection = try blocking(transport, server.endpoint, options)
                case 1:
                    options.timeout = .seconds(60)
                    connection = try blocking(transport, server.endpoint, options)
                default:
                    connection = try await Connectx.connect(
                        transport, to: server.endpoint, options: options)
                }
                #expect(connection.outcome.sent == size, "\(way)")
                #expect(await received.value == data, "\(way)")
            }
        }

        private func blocking(
            _ transport: Transport, _ endpoint: Endpoint, _ options: Connectx.Options
        ) throws(ConnectError) -> Connectx.Connection {
            try Connectx.connectBlocking(transport, to: endpoint, options: options)
        }

        /// A datagram that is too large is an error, and no connection.
        @Test func firstDataThatCannotBeSent() throws {
            var options = Connectx.Options()
            options.firstData = .fastOpen([UInt8](repeating: 0, count: 70_000))
            let error = failure { () throws(ConnectError) in
                _ = try Connectx.connectBlocking(
                    .udp, to: Endpoint(IPAddress(v4: 127, 0, 0, 1), 9), options: options)
            }
            #expect(error?.errno == EMSGSIZE)
        }

        private func read(_ connection: borrowing Connectx.Connection) -> String? {
            var buffer = [UInt8](repeating: 0, count: 64)
            var ready = pollfd(
                fd: connection.descriptor.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 60_000) == 1 else { return nil }
            let count = recv(connection.descriptor.raw, &buffer, buffer.count, 0)
            return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
        }

        /// A counter of /proc/net/netstat.
        private func counter(_ name: String) -> Int? {
            let lines = (contents(of: "/proc/thread-self/net/netstat") ?? "").split(separator: "\n")
                .map { $0.split(separator: " ") }
            for (names, values) in zip(lines, lines.dropFirst()) where names[0] == values[0] {
                if let index = names.firstIndex(of: Substring(name)) { return Int(values[index]) }
            }
            return nil
        }

        // MARK: - Async

        @Test(arguments: Kind.allCases)
        func asyncConnects(_ kind: Kind) async throws {
            let server = try EchoServer(kind, port: 0)
            let connection = try await Connectx.connect(kind.transport, to: server.endpoint)
            #expect(connection.outcome.state == .connected)
            #expect(fcntl(connection.descriptor.raw, F_GETFL) & O_NONBLOCK == 0)
            #expect(server.echoes(over: [connection.descriptor.raw]))
        }

        @Test func asyncGivesUpAndIsCancelled() async throws {
            let deaf = try DeafListener()
            var options = Connectx.Options()
            options.timeout = .milliseconds(50)
            await #expect(throws: ConnectError.self) {
                _ = try await Connectx.connect(.tcp, to: deaf.endpoint, options: options)
            }
            let task = Task { () -> Int32 in
                do throws(ConnectError) {
                    _ = try await Connectx.connect(.tcp, to: deaf.endpoint)
                    return 0
                } catch {
                    return error.errno
                }
            }
            try await Task.sleep(for: .milliseconds(20))
            task.cancel()
            #expect(await task.value == ECANCELED)
        }

        @Test func asyncIsRefused() async throws {
            let free = try rawSocket(.tcp4, bound: Kind.tcp4.endpoint(0))
            let raw = free.raw
            let endpoint = try Endpoint { getsockname(raw, $0, $1) }
            do throws(ConnectError) {
                _ = try await Connectx.connect(.tcp, to: endpoint)
                Issue.record("it connected")
            } catch {
                #expect(error.errno == ECONNREFUSED)
            }
        }

        // MARK: - Several destinations

        @Test(arguments: [Kind.udp4, .tcp4])
        func eachDestinationBringsItsPorts(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41003")
                    let server = try EchoServer(kind, port: 50_001, anyAddress: true)
                    let destinations = try Connectx.Destinations.loopback(port: 50_001, count: 3)
                    let held = Held()
                    let error = failure { () throws(ConnectError) in
                        while held.all.count < 100 {
                            held.keep(
                                try Connectx.connectBlocking(kind.transport, toAnyOf: destinations))
                        }
                    }
                    #expect(error?.reason == .exhausted)
                    #expect(held.all.count == 12)
                    // In turn, not one after the other.
                    let first = Set(held.all.prefix(3).map(\.tuple.remote.address))
                    #expect(first.count == 3)
                    _ = server
                }
            }
        }

        // MARK: - Under a guard

        private func techniques(_ output: String) -> String {
            output.split(separator: "\n").first { $0.contains(" by ") }.map(String.init) ?? output
        }

        @Test func underAGuardThereIsNoLock() throws {
            try Sandbox.run { sandbox in
                let program = Sandbox.program("tupleguard")
                let line = ["connect", "udp", "127.0.0.1:4001", "127.0.0.1:9", "--count", "1"]
                let before = try sandbox.command(program, line, in: sandbox.cgroup)
                #expect(techniques(before.output) == "  1 by lock")
                try sandbox.attach()
                let guarded = try sandbox.command(program, line, in: sandbox.cgroup)
                #expect(techniques(guarded.output) == "  1 by guarded")
                // How it found out is no conflict.
                #expect(try sandbox.counters()[.selfTests] == 1)
                #expect(try sandbox.tupleguard("conflicts").output == "no conflicts\n")
                let outside = try sandbox.command(program, line, in: sandbox.outside)
                #expect(techniques(outside.output) == "  1 by lock")
                let named = ["connect", "udp", "127.0.0.1:4000", "127.0.0.1:9", "--count", "2"]
                let conflict = try sandbox.command(program, named, in: sandbox.cgroup)
                #expect(conflict.output.contains("opened 1 connection of 2"))
                #expect(conflict.output.contains("(EADDRINUSE)"))
            }
        }

        @Test func whatAGuardLetsThroughIsLocked() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.mode = .observe
                try sandbox.attach(policy)
                let outcome = try sandbox.command(
                    Sandbox.program("tupleguard"),
                    ["connect", "udp", "127.0.0.1:4000", "127.0.0.1:9", "--count", "2"],
                    in: sandbox.cgroup)
                #expect(techniques(outcome.output) == "  1 by lock")
                #expect(outcome.output.contains("(EADDRINUSE)"))
            }
        }

        /// It is connected without a lock, and shared from then on: the guard has its claim all the
        /// same.
        @Test func aPortOfOnesOwnIsClaimed() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let program = """
                    import socket, sys
                    from connectx import connectx
                    def udp():
                        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); return s
                    first, second, third = udp(), udp(), udp()
                    connectx(first, ('127.0.0.1', 9))
                    for s, port in (second, 10), (third, 9):
                        s.bind(first.getsockname())
                        try: s.connect(('127.0.0.1', port)); print('ok')
                        except OSError as error: print(type(error).__name__)
                    """
                let outcome = try sandbox.command(
                    "/usr/bin/python3", ["-c", program], in: sandbox.cgroup,
                    environment: [
                        "CONNECTX_LIBRARY": ConnectxLibrary.path, "PYTHONDONTWRITEBYTECODE": "1",
                        "PYTHONPATH": IntegrationTests.ConnectxFromC.pythonModules,
                    ])
                #expect(outcome.output == "ok\nPermissionError\n", "\(outcome.errors)")
                // The address of a new socket is found out without connecting from a port that the
                // kernel chooses, and that the guard does not know of.
                let line = ["connect", "udp", "127.0.0.1:9", "--count", "1"]
                let own = try sandbox.command(
                    Sandbox.program("tupleguard"), line, in: sandbox.cgroup)
                #expect(techniques(own.output) == "  1 by own_port")
                #expect(try sandbox.counters()[.exclusivePort] == 0)
            }
        }

        /// The guard does not know this socket, whose process moved in later.
        @Test func aSocketFromElsewhereIsLocked() throws {
            try Sandbox.run { sandbox in
                let socket = try sandbox.socket(in: sandbox.outside).descriptor
                try sandbox.attach()
                let source = Source(Kind.udp4.endpoint(42_007))
                let result = try connectOwn(socket, to: Kind.udp4.endpoint(9), from: source)
                #expect(result.technique == .lock)
            }
        }
    }
}

/// Takes what one client sends after another.
private final class DataServer: Sendable {
    let endpoint: Endpoint
    private let transport: Transport
    private let raw: Int32

    init(_ transport: Transport) throws {
        self.transport = transport
        let kind = transport == .tcp ? Kind.tcp4 : .udp4
        let raw = try rawSocket(kind, bound: kind.endpoint(0)).release()
        self.raw = raw
        if transport == .tcp { try Errno.check { listen(raw, 8) } }
        endpoint = try Endpoint { getsockname(raw, $0, $1) }
    }

    deinit { close(raw) }

    /// The next client's first bytes, `size` of them; fewer when they do not come.
    func receive(_ size: Int) -> [UInt8] {
        guard isReadable(raw) else { return [] }
        let peer = transport == .tcp ? accept(raw, nil, nil) : dup(raw)
        defer { close(peer) }
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while received.count < size, isReadable(peer) {
            let count = recv(peer, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            received += buffer[..<count]
        }
        return received
    }

    /// Waits for minutes: tests that block may have all threads on which an async one could go on.
    private func isReadable(_ descriptor: Int32) -> Bool {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&ready, 1, 300_000) == 1
    }
}
