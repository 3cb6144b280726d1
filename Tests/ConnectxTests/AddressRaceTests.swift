// SPDX-License-Identifier: Apache-2.0
// Several addresses of one host: which is tried when, and which connection is had.

import Dispatch
import Glibc
import Testing
import TupleguardSockets

@testable import Connectx

@Suite struct AddressRaceTests {
    /// The families in turn, beginning with the preferred one, and each in the order it had.
    @Test(arguments: [
        ("6a 6b 6c 4a 4b", "6a 4a 6b 4b 6c"), ("4a 6a 6b", "4a 6a 6b"), ("4a 4b", "4a 4b"),
        ("", ""), ("6a 4a 4b 4c", "6a 4a 4b 4c"),
    ])
    func familiesTakeTurns(_ given: String, _ expected: String) {
        func endpoints(_ text: String) -> [Endpoint] {
            text.split(separator: " ").map { word in
                let last = word.last!
                return Endpoint(word.first == "6" ? "[fe80::\(last)]:1" : "10.0.0.1:1")!
            }
        }
        func families(_ endpoints: [Endpoint]) -> [Bool] { endpoints.map(\.address.isIPv4) }
        let sorted = inTurnByFamily(endpoints(given))
        #expect(families(sorted) == families(endpoints(expected)))
        #expect(
            sorted.filter { !$0.address.isIPv4 }
                == endpoints(given).filter { !$0.address.isIPv4 })
    }

    // MARK: - Racing

    /// A port where nobody listens, and nobody will as long as this lives.
    private struct Closed: ~Copyable {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let endpoint: Endpoint

        init() throws {
            let descriptor = descriptor
            let loopback = Endpoint(IPAddress(v4: 127, 0, 0, 1), 0)
            try Errno.check {
                loopback.withSocketAddress(family: AF_INET) { bind(descriptor, $0, $1) }
            }
            endpoint = try Endpoint { getsockname(descriptor, $0, $1) }
        }

        deinit { close(descriptor) }
    }

    /// A listener that answers no more, because its queue is full.
    private struct Deaf: ~Copyable {
        private let closed: Closed
        private let filler: Int32
        var endpoint: Endpoint { closed.endpoint }

        init() throws {
            closed = try Closed()
            let endpoint = closed.endpoint
            listen(closed.descriptor, 0)
            filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            endpoint.withSocketAddress(family: AF_INET) { _ = Glibc.connect(filler, $0, $1) }
            // It is full once the first waits to be accepted, which may be after its connect().
            var waiting = pollfd(fd: closed.descriptor, events: Int16(POLLIN), revents: 0)
            poll(&waiting, 1, 60_000)
        }

        deinit { close(filler) }
    }

    private enum Way: CaseIterable { case awaited, blocking }

    private func race(_ addresses: [Endpoint], _ way: Way, _ options: Connectx.Options) async
        -> Result<FourTuple, ConnectError>
    {
        switch way {
        case .awaited:
            do throws(ConnectError) {
                let connection = try await Connectx.connect(
                    .tcp, toFastestOf: addresses, options: options)
                return .success(connection.tuple)
            } catch {
                return .failure(error)
            }
        case .blocking: return raceBlocking(addresses, options)
        }
    }

    private func raceBlocking(_ addresses: [Endpoint], _ options: Connectx.Options)
        -> Result<FourTuple, ConnectError>
    {
        Result { () throws(ConnectError) in
            try Connectx.connectBlocking(.tcp, toFastestOf: addresses, options: options).tuple
        }
    }

    @Test(arguments: Way.allCases)
    private func whoRefusesMakesWay(_ way: Way) async throws {
        let closed = try Closed()
        let listener = try Listener()
        // With a delay that the test would not live to see.
        var options = Connectx.Options()
        options.attemptDelay = .seconds(3600)
        let addresses = [closed.endpoint, closed.endpoint, listener.endpoint]
        #expect(try await race(addresses, way, options).get().remote == listener.endpoint)
    }

    @Test(arguments: Way.allCases)
    private func whoDoesNotAnswerIsNotWaitedFor(_ way: Way) async throws {
        let deaf = try Deaf()
        let listener = try Listener()
        var options = Connectx.Options()
        options.attemptDelay = .milliseconds(1)
        let addresses = [deaf.endpoint, listener.endpoint]
        #expect(try await race(addresses, way, options).get().remote == listener.endpoint)
    }

    /// Who refuses later does not end the hope in who was first.
    @Test(arguments: Way.allCases)
    private func theTimeEnds(_ way: Way) async throws {
        let deaf = try Deaf()
        let closed = try Closed()
        var options = Connectx.Options()
        options.attemptDelay = .milliseconds(10)
        options.timeout = .milliseconds(200)
        let result = await race([deaf.endpoint, closed.endpoint], way, options)
        #expect(throws: ConnectError.self) { try result.get() }
        if case .failure(let error) = result { #expect(error.reason == .timedOut) }
    }

    @Test(arguments: Way.allCases)
    private func allFail(_ way: Way) async throws {
        let closed = try Closed()
        // A link-local address that is nowhere: the refusal is what is told.
        let nowhere = Endpoint("[fe80::1]:1")!
        for addresses in [[closed.endpoint, nowhere], [nowhere, closed.endpoint]] {
            let result = await race(addresses, way, Connectx.Options())
            guard case .failure(let error) = result else {
                Issue.record("it connected")
                continue
            }
            #expect(error.errno == ECONNREFUSED)
        }
        guard case .failure(let error) = await race([], way, Connectx.Options()) else {
            Issue.record("it connected")
            return
        }
        #expect(error.reason == .invalidArgument)
    }

    @Test func aRaceIsCancelled() async throws {
        let deaf = try Deaf()
        let endpoint = deaf.endpoint
        let task = Task {
            await race([endpoint, endpoint], .awaited, Connectx.Options())
        }
        try await Task.sleep(for: .milliseconds(20))
        task.cancel()
        guard case .failure(let error) = await task.value else {
            Issue.record("it connected")
            return
        }
        #expect(error.reason == .cancelled)
    }

    /// UDP: the first address with which the socket can be connected.
    @Test func aWayForUDP() async throws {
        let addresses = ["[::1]:9", "127.0.0.1:9"].compactMap { Endpoint($0) }
        let connection = try await Connectx.connect(
            .udp, toFastestOf: addresses, from: Connectx.Source("127.0.0.1")!)
        #expect(connection.tuple.remote == addresses[1])
    }

    // MARK: - Names

    @Test func aName() async throws {
        let listener = try Listener()
        let connection = try await Connectx.connect(
            .tcp, toHost: "127.0.0.1", port: listener.endpoint.port)
        #expect(connection.tuple.remote == listener.endpoint)
    }

    @Test(arguments: ["", "two..dots", "nul\0", "a name"])
    func noName(_ name: String) async {
        do throws(ConnectError) {
            _ = try await Connectx.connect(.tcp, toHost: name, port: 80)
            Issue.record("it connected")
        } catch {
            #expect(error.reason == .unknownHost)
            #expect(error.host == name)
            #expect(error.description.contains("getent"))
        }
    }
}
