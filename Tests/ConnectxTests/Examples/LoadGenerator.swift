// SPDX-License-Identifier: Apache-2.0
// The Swift of the article about load generators, and what it does.

import Connectx
import Glibc
import Testing

/// Opens UDP connections until there are `count`, or every port of every source is busy for every
/// server.
func openLoad(
    _ count: Int, to servers: Connectx.Destinations, from sources: [Connectx.IPAddress]
) throws(ConnectError) -> [Int32] {
    var sockets: [Int32] = []
    var sources = sources[...]
    while sockets.count < count, let source = sources.first {
        do throws(ConnectError) {
            let connection = try Connectx.open(
                .udp, toAnyOf: servers, from: Connectx.Source(address: source))
            sockets.append(connection.takeDescriptor())
        } catch {
            // The next source has all the ports anew.
            guard error.reason == .exhausted else { throw error }
            sources.removeFirst()
        }
    }
    return sockets
}

/// Opens TCP connections, 500 at a time. None of them keeps a thread waiting.
func openLoad(_ count: Int, to server: Connectx.Endpoint) async throws -> [Int32] {
    try await withThrowingTaskGroup(of: Int32.self) { group in
        var sockets: [Int32] = []
        for number in 0..<count {
            if number >= 500, let socket = try await group.next() { sockets.append(socket) }
            group.addTask { try await Connectx.connect(.tcp, to: server).takeDescriptor() }
        }
        for try await socket in group { sockets.append(socket) }
        return sockets
    }
}

@Suite struct LoadGeneratorTests {
    @Test func udp() throws {
        let servers = try Connectx.Destinations.loopback(port: 9, count: 3)
        let sources = [1, 2].map { Connectx.IPAddress(v4: 127, 0, 0, $0) }
        let sockets = try openLoad(300, to: servers, from: sources)
        #expect(sockets.count == 300)
        for socket in sockets { close(socket) }
    }

    @Test func tcp() async throws {
        let listener = try Listener()
        let sockets = try await openLoad(600, to: listener.endpoint)
        #expect(Set(sockets).count == 600)
        for socket in sockets { close(socket) }
    }
}
