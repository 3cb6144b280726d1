// SPDX-License-Identifier: Apache-2.0
// The Swift of the article about client pools, and what it does.

import Connectx
import Glibc
import Testing

/// Connections to one service from one address, lent out and taken back.
actor Pool {
    private let service: Connectx.Destinations
    private let source: Connectx.IPAddress
    private var idle: [Int32] = []

    init(_ service: Connectx.Destinations, from source: Connectx.IPAddress) {
        self.service = service
        self.source = source
    }

    deinit {
        for socket in idle { close(socket) }
    }

    /// Runs `body` with a connection that is idle, or else with a new one.
    func withConnection<Result: Sendable>(
        _ body: @Sendable (Int32) async throws -> Result
    ) async throws -> Result {
        let socket = try await take()
        do {
            let result = try await body(socket)
            idle.append(socket)
            return result
        } catch {
            // Nobody knows what is still under way on it.
            close(socket)
            throw error
        }
    }

    private func take() async throws(ConnectError) -> Int32 {
        if let socket = idle.popLast() { return socket }
        var options = Connectx.Options()
        options.timeout = .seconds(2)
        let connection = try await Connectx.connect(
            .tcp, toAnyOf: service, from: Connectx.Source(address: source), options: options)
        return connection.takeDescriptor()
    }
}

@Suite struct ClientPoolTests {
    private struct Broken: Error {}

    @Test func connectionsAreUsedAgain() async throws {
        let listener = try Listener()
        let pool = Pool(
            try Connectx.Destinations([listener.endpoint]),
            from: Connectx.IPAddress(v4: 127, 0, 0, 3))
        let first = try await pool.withConnection { $0 }
        #expect(try await pool.withConnection { $0 } == first)
        await #expect(throws: Broken.self) {
            try await pool.withConnection { _ in throw Broken() }
        }
        // The number is free again, and whoever opens something next may have it.
        #expect(try await pool.withConnection { fcntl($0, F_GETFD) } >= 0)
    }
}
