// SPDX-License-Identifier: Apache-2.0
// What the Swift functions promise beyond the connection: who waits, who owns the socket, which
// options it has, what a cancelled task is told.

import CTupleguardLinux
import Connectx
import Foundation
import Glibc
import Synchronization
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct ConnectxAPI {
        // MARK: - Others at a named port

        /// How often the calling thread has gone to sleep.
        private var sleeps: Int {
            let lines = (contents(of: "/proc/thread-self/status") ?? "").split(separator: "\n")
            let line = lines.first { $0.hasPrefix("voluntary_ctxt_switches:") }
            return line?.split(separator: "\t").last.flatMap { Int($0) } ?? -1
        }

        /// Somebody waits unconnected on the port, who may be about to connect or a server.
        @Test(arguments: [Kind.udp4, .udp6])
        func aContendedPort(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let waits = try rawSocket(kind, shares: true, bound: kind.endpoint(42_000))
                    let source = Source(kind.endpoint(42_000))
                    let to = kind.endpoint(9)
                    func expect(
                        _ reason: ConnectError.Reason, isPatient: Bool,
                        _ body: () throws(ConnectError) -> Void
                    ) {
                        let before = sleeps
                        let error = failure(body)
                        let slept = sleeps - before
                        #expect(error?.reason == reason)
                        #expect(error?.errno == EADDRINUSE)
                        #expect(isPatient ? slept > 20 : slept < 10, "\(slept)")
                    }
                    expect(.conflict, isPatient: true) { () throws(ConnectError) in
                        _ = try Connectx.connectBlocking(.udp, to: to, from: source)
                    }
                    expect(.contended, isPatient: false) { () throws(ConnectError) in
                        _ = try Connectx.open(.udp, to: to, from: source)
                    }
                    var options = Connectx.Options()
                    options.failsWhenContended = true
                    expect(.contended, isPatient: false) { () throws(ConnectError) in
                        _ = try Connectx.connectBlocking(
                            .udp, to: to, from: source, options: options)
                    }
                    let own = try rawSocket(kind)
                    expect(.conflict, isPatient: true) { () throws(ConnectError) in
                        _ = try connectOwn(own.raw, to: to, from: source)
                    }
                    linux_set_blocking(own.raw, false)
                    expect(.contended, isPatient: false) { () throws(ConnectError) in
                        _ = try connectOwn(own.raw, to: to, from: source)
                    }
                    _ = waits
                }
            }
        }

        /// A task waits for those who connect from its port to go on, and gets it.
        @Test func aTaskWaitsForAContendedPort() async throws {
            let port = try freePort(.udp4)
            let waits = try rawSocket(.udp4, shares: true, bound: Kind.udp4.endpoint(port))
            let source = Source(Kind.udp4.endpoint(port))
            await #expect(throws: ConnectError.self) {
                _ = try await Connectx.connect(.udp, to: Kind.udp4.endpoint(9), from: source)
            }
            _ = waits
        }

        /// A port that nobody has, for as long as nobody takes it.
        private func freePort(_ kind: Kind) throws -> UInt16 {
            let socket = try rawSocket(kind, bound: kind.endpoint(0))
            return try Endpoint { getsockname(socket.raw, $0, $1) }.port
        }

        /// TCP: the promised reason and errno where bind() fails already, and a message of its own.
        @Test(arguments: [Kind.tcp4, .tcp6])
        func aTCPPortThatIsNotShared(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let server = try EchoServer(kind, port: 50_001)
                    let listens = try EchoServer(kind, port: 42_000)
                    let alone = try rawSocket(kind, bound: kind.endpoint(42_001))
                    for port: UInt16 in [42_000, 42_001] {
                        let error = failure { () throws(ConnectError) in
                            _ = try Connectx.connectBlocking(
                                .tcp, to: server.endpoint, from: Source(kind.endpoint(port)))
                        }
                        #expect(error?.reason == .conflict)
                        #expect(error?.errno == EADDRNOTAVAIL)
                        #expect(error?.description.contains("does not share it") == true)
                    }
                    _ = listens
                    _ = alone
                }
            }
        }

        // MARK: - Options before the connect

        @Test(arguments: Kind.allCases)
        func optionsAreSetBeforeTheConnect(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let server = try EchoServer(kind, port: 50_001)
                    let calls = Mutex(0)
                    let connection = try Connectx.connectBlocking(
                        kind.transport, to: server.endpoint
                    ) { socket in
                        calls.withLock { $0 += 1 }
                        #expect(!isConnected(socket.descriptor))
                        socket.set(SOL_SOCKET, SO_MARK, to: 7)
                    }
                    #expect(calls.withLock { $0 } == 1)
                    let mark = connection.withDescriptor { try? SocketOption.mark.get($0) }
                    #expect(mark == 7)
                    #expect(server.echoes(over: [connection.descriptor.raw]))
                }
            }
        }

        /// The port range that `configure` sets counts, as any socket's own.
        @Test func aPortRangeOfItsOwn() throws {
            for _ in 0..<20 {
                let connection = try Connectx.open(.udp, to: Kind.udp4.endpoint(9)) {
                    $0.set(LINUX_SOL_IP, LINUX_IP_LOCAL_PORT_RANGE, to: 43_002 << 16 | 43_000)
                }
                #expect((43_000...43_002).contains(connection.tuple.local.port))
            }
        }

        @Test func anOptionThatIsRefusedIsAnError() {
            let error = failure { () throws(ConnectError) in
                _ = try Connectx.open(.udp, to: Kind.udp4.endpoint(9)) {
                    $0.set(SOL_SOCKET, 9999, to: 1)
                }
            }
            #expect(error?.reason == .optionRefused)
            #expect(error?.errno == ENOPROTOOPT)
        }

        // MARK: - Who owns the socket

        private func isConnected(_ socket: Int32) -> Bool {
            (try? Endpoint { getpeername(socket, $0, $1) }) != nil
        }

        private func isOpen(_ socket: Int32) -> Bool { fcntl(socket, F_GETFD) >= 0 }

        @Test func theConnectionClosesWhatItAdopts() throws {
            let own = try rawSocket(.udp4).release()
            let cookie = try SocketOption.cookie.get(own)
            do {
                let connection = try Connectx.open(adopting: own, to: Kind.udp4.endpoint(9))
                #expect(connection.withDescriptor { $0 } == own)
            }
            // Another test may have got the number.
            #expect((try? SocketOption.cookie.get(own)) != cookie)
        }

        /// What cannot be connected stays the caller's, blocking and unconnected as it was.
        @Test(arguments: [true, false])
        func whatFailsStaysTheCallers(_ isAsync: Bool) async throws {
            let nobody = Kind.tcp4.endpoint(try freePort(.tcp4))
            let own = try rawSocket(.tcp4)
            let raw = own.raw
            await #expect(throws: ConnectError.self) {
                if isAsync {
                    _ = try await Connectx.connect(adopting: raw, to: nobody)
                } else {
                    _ = try adoptBlocking(raw, nobody)
                }
            }
            #expect(isOpen(raw))
            #expect(!isConnected(raw))
            #expect(linux_is_blocking(raw))
        }

        private func adoptBlocking(
            _ raw: Int32, _ to: Endpoint, _ source: Source = .any
        ) throws(ConnectError) -> Connectx.Connection {
            try Connectx.connectBlocking(adopting: raw, to: to, from: source)
        }

        /// Nor does it keep the address that it was bound to for the connection, nor the options.
        @Test(arguments: [true, false])
        func whatFailsIsUnboundAgain(_ isAsync: Bool) async throws {
            let nobody = Kind.tcp4.endpoint(try freePort(.tcp4))
            let own = try rawSocket(.tcp4)
            let raw = own.raw
            let source = Source(address: IPAddress(v4: 127, 0, 0, 7))
            await #expect(throws: ConnectError.self) {
                if isAsync {
                    _ = try await Connectx.connect(adopting: raw, to: nobody, from: source)
                } else {
                    _ = try adoptBlocking(raw, nobody, source)
                }
            }
            let name = try Endpoint { getsockname(raw, $0, $1) }
            #expect(name.address.isAny && name.port == 0, "\(name)")
            #expect(try SocketOption.bindAddressNoPort.get(raw) == 0)
            #expect(try SocketOption.reuseAddress.get(raw) == 0)
        }

        /// A socket of the caller's that blocks is connected without a thread that waits, and
        /// blocks as before.
        @Test(arguments: Kind.allCases)
        func anAdoptedSocketIsAwaited(_ kind: Kind) async throws {
            let server = try EchoServer(kind, port: 0)
            let own = try rawSocket(kind).release()
            let connection = try await Connectx.connect(adopting: own, to: server.endpoint)
            #expect(connection.state == .connected)
            #expect(linux_is_blocking(own))
            #expect(server.echoes(over: [own]))
        }

        @Test func whoGivesUpLeavesTheSocketAsItWas() async throws {
            let deaf = try DeafListener()
            let own = try rawSocket(.tcp4)
            let raw = own.raw
            var options = Connectx.Options()
            options.timeout = .milliseconds(20)
            let error = await asyncFailure { () async throws(ConnectError) in
                _ = try await Connectx.connect(adopting: raw, to: deaf.endpoint, options: options)
            }
            #expect(error?.reason == .timedOut)
            #expect(linux_is_blocking(raw))
            #expect(try SocketOption.tcpState.get(raw) == 7)  // TCP_CLOSE
        }

        // MARK: - Cancelled tasks

        private func asyncFailure(_ body: () async throws(ConnectError) -> Void) async
            -> ConnectError?
        {
            do throws(ConnectError) {
                try await body()
                return nil
            } catch {
                return error
            }
        }

        @Test(arguments: Kind.allCases)
        func aCancelledTaskIsTold(_ kind: Kind) async throws {
            let server = try EchoServer(kind, port: 0)
            let endpoint = server.endpoint
            let started = DispatchSemaphore(value: 0)
            let task = Task {
                // Cancelled before it begins.
                while !Task.isCancelled { await Task.yield() }
                started.signal()
                return await asyncFailure { () async throws(ConnectError) in
                    _ = try await Connectx.connect(kind.transport, to: endpoint)
                }
            }
            task.cancel()
            let error = await task.value
            #expect(error?.reason == .cancelled)
            #expect(error?.errno == ECANCELED)
            #expect(error?.tuple.remote == endpoint)
        }

        // MARK: - Many at once

        /// How many threads this process has.
        private var threads: Int {
            (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? 0
        }

        /// Waits need no thread each, and leave none.
        @Test func twoThousandWaits() async throws {
            let deaf = try DeafListener()
            let before = threads
            var options = Connectx.Options()
            options.timeout = .seconds(600)
            let most = try await withThrowingTaskGroup(of: Connectx.Outcome?.self) { group in
                for _ in 0..<2000 {
                    group.addTask { [options] in
                        do {
                            return try await Connectx.connect(
                                .tcp, to: deaf.endpoint, options: options
                            ).outcome
                        } catch let error as ConnectError {
                            #expect(error.reason == .cancelled)
                            return nil
                        }
                    }
                }
                var most = 0
                for _ in 0..<20 {
                    try await Task.sleep(for: .milliseconds(20))
                    most = max(most, threads)
                }
                group.cancelAll()
                for try await outcome in group { #expect(outcome == nil) }
                return most
            }
            // The pool's own threads, those of Dispatch, and one for all waits; other tests run
            // beside this one.
            #expect(most - before < 500, "\(before) threads before, \(most) at most")
        }
    }
}

/// A listener whose queue is full: whoever connects to it waits.
final class DeafListener: Sendable {
    let endpoint: Endpoint
    private let descriptors: [Int32]

    init() throws {
        let listener = try rawSocket(.tcp4, bound: Kind.tcp4.endpoint(0)).release()
        try Errno.check { listen(listener, 0) }
        let endpoint = try Endpoint { getsockname(listener, $0, $1) }
        let filler = try OwnedDescriptor {
            socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }.release()
        try Errno.check {
            endpoint.withSocketAddress(family: AF_INET) { connect(filler, $0, $1) }
        }
        // It is full once the first waits to be accepted, which may be after its connect().
        var waiting = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
        #expect(poll(&waiting, 1, 60_000) == 1)
        self.endpoint = endpoint
        descriptors = [listener, filler]
    }

    deinit {
        for descriptor in descriptors { close(descriptor) }
    }
}
