// SPDX-License-Identifier: Apache-2.0
// The Swift of README.md and of the library's overview, compiled and run.

import Connectx
import Glibc
import Testing

@Suite struct FirstSteps {
    @Test func theREADME() throws {
        // UDP: source and port are chosen. The socket is closed when `connection` goes.
        let connection = try Connectx.open(.udp, to: Connectx.Endpoint("127.0.0.1:53")!)
        print(connection.tuple, connection.technique)
        #expect(connection.tuple.remote.port == 53)
    }

    @Test func theOverview() async throws {
        let listener = try Listener()
        let server = listener.endpoint
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        // From an address, with options of the socket's own, and an end to the patience.
        var options = Connectx.Options()
        options.timeout = .seconds(3)
        let other = try await Connectx.connect(
            .tcp, to: server, from: Connectx.Source("127.0.0.1")!, options: options
        ) { $0.set(SOL_SOCKET, SO_RCVBUF, to: 1 << 20) }

        // A local service that listens on 0.0.0.0 has 254 port spaces on loopback.
        let upstream = try Connectx.Destinations.loopback(port: server.port)
        let third = try await Connectx.connect(.tcp, toAnyOf: upstream)

        // A socket of your own. If that fails it stays yours, as it was.
        let fourth = try Connectx.open(adopting: descriptor, to: server)
        let sent = fourth.withDescriptor { send($0, "hello", 5, 0) }
        let mine = fourth.takeDescriptor()

        #expect(other.tuple.remote == server && third.tuple.remote.port == server.port)
        #expect(sent == 5 && mine == descriptor)
        close(mine)
    }
}

/// A TCP server at every address of this host, which accepts nobody: the kernel does.
struct Listener: ~Copyable {
    private let descriptor: Int32
    let endpoint: Connectx.Endpoint

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isListening = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 1024) == 0
                    && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(isListening)
        endpoint = Connectx.Endpoint(
            Connectx.IPAddress(v4: 127, 0, 0, 1), UInt16(bigEndian: name.sin_port))
    }

    deinit { close(descriptor) }
}
