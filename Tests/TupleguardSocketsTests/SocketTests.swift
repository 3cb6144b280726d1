// SPDX-License-Identifier: Apache-2.0
// Endpoints through the kernel and back, on sockets of the loopback interface.

import Glibc
import Testing

@testable import TupleguardLinux
@testable import TupleguardSockets

/// Whether this machine has IPv6 on its loopback interface.
private let hasIPv6: Bool = {
    guard let probe = try? OwnedDescriptor({ socket(AF_INET6, Int32(SOCK_DGRAM.rawValue), 0) })
    else { return false }
    return Endpoint(.loopback6, 0).withSocketAddress(family: AF_INET6) { bind(probe.raw, $0, $1) }
        == 0
}()

struct SocketAddressTests {
    private let loopback = IPAddress(v4: 127, 0, 0, 1)

    /// A UDP socket; blocks for at most ten seconds, so that a lost datagram is a failure, not a
    /// hang.
    private func makeSocket(_ family: Int32) throws -> OwnedDescriptor {
        let descriptor = try OwnedDescriptor {
            socket(family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let raw = descriptor.raw
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        try Errno.check {
            setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        return descriptor
    }

    @Test("The IPv4 form has family, port and address where the kernel looks for them")
    func v4Layout() throws {
        let endpoint = try #require(Endpoint("192.0.2.1:53"))
        endpoint.withSocketAddress(family: AF_INET) { name, length in
            #expect(length == socklen_t(MemoryLayout<sockaddr_in>.size))
            let bytes = UnsafeRawBufferPointer(start: name, count: Int(length))
            #expect(bytes.loadUnaligned(as: sa_family_t.self) == sa_family_t(AF_INET))
            #expect(Array(bytes[2..<8]) == [0, 53, 192, 0, 2, 1])
            #expect(bytes[8...].allSatisfy { $0 == 0 })
        }
    }

    @Test("An IPv4 address becomes v4-mapped for an IPv6 socket")
    func mappedLayout() throws {
        let endpoint = try #require(Endpoint("192.0.2.1:53"))
        endpoint.withSocketAddress(family: AF_INET6) { name, length in
            #expect(length == socklen_t(MemoryLayout<sockaddr_in6>.size))
            let bytes = UnsafeRawBufferPointer(start: name, count: Int(length))
            #expect(bytes.loadUnaligned(as: sa_family_t.self) == sa_family_t(AF_INET6))
            #expect(Array(bytes[2..<8]) == [0, 53, 0, 0, 0, 0])
            #expect(
                Array(bytes[8..<24]) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1])
        }
    }

    @Test("What is thrown inside comes out")
    func errorInside() {
        #expect(throws: Errno(EIO)) {
            try Endpoint(loopback, 1).withSocketAddress(family: AF_INET) { _, _ in throw Errno(EIO)
            }
        }
    }

    @Test("An IPv4 name that a socket was bound to is the one that it has")
    func v4RoundTrip() throws {
        let descriptor = try makeSocket(AF_INET)
        let raw = descriptor.raw
        try Errno.check {
            Endpoint(loopback, 0).withSocketAddress(family: AF_INET) { bind(raw, $0, $1) }
        }
        let name = try Endpoint { getsockname(raw, $0, $1) }
        #expect(name.address == loopback)
        #expect(name.port != 0)

        let peer = Endpoint(IPAddress(v4: 127, 1, 2, 3), 4711)
        try Errno.check { peer.withSocketAddress(family: AF_INET) { connect(raw, $0, $1) } }
        #expect(try Endpoint { getpeername(raw, $0, $1) } == peer)
    }

    @Test("An IPv6 name that a socket was bound to is the one that it has", .enabled(if: hasIPv6))
    func v6RoundTrip() throws {
        let loopback = try #require(IPAddress("::1"))
        let descriptor = try makeSocket(AF_INET6)
        let raw = descriptor.raw
        try Errno.check {
            Endpoint(loopback, 0).withSocketAddress(family: AF_INET6) { bind(raw, $0, $1) }
        }
        let name = try Endpoint { getsockname(raw, $0, $1) }
        #expect(name.address == loopback)
        #expect(name.port != 0)

        let peer = Endpoint(loopback, 4711)
        try Errno.check { peer.withSocketAddress(family: AF_INET6) { connect(raw, $0, $1) } }
        #expect(try Endpoint { getpeername(raw, $0, $1) } == peer)
    }

    @Test("An IPv6 socket with an IPv4 peer names both ends as IPv4", .enabled(if: hasIPv6))
    func mappedRoundTrip() throws {
        let descriptor = try makeSocket(AF_INET6)
        let raw = descriptor.raw
        let peer = Endpoint(loopback, 4711)
        try Errno.check { peer.withSocketAddress(family: AF_INET6) { connect(raw, $0, $1) } }
        #expect(try Endpoint { getpeername(raw, $0, $1) } == peer)
        #expect(try Endpoint { getsockname(raw, $0, $1) }.address == loopback)
    }

    @Test("A socket without a peer has no name of one")
    func noPeer() throws {
        let descriptor = try makeSocket(AF_INET)
        let raw = descriptor.raw
        #expect(throws: Errno(ENOTCONN)) { try Endpoint { getpeername(raw, $0, $1) } }
    }

    @Test("A socket of another family has no endpoint")
    func otherFamily() throws {
        let descriptor = try makeSocket(AF_UNIX)
        let raw = descriptor.raw
        #expect(throws: Errno(EAFNOSUPPORT)) { try Endpoint { getsockname(raw, $0, $1) } }
    }
}
