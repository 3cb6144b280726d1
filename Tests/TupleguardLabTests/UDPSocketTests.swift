// SPDX-License-Identifier: Apache-2.0
// The socket with which the lab shows the problem.

import Glibc
import Testing
import TupleguardSockets

@testable import TupleguardLab

struct UDPSocketTests {
    @Test("Unbound it has no port; bound to port 0 it has one of the kernel's choice")
    func names() throws {
        let unbound = try UDPSocket(family: AF_INET)
        #expect(try unbound.localName().port == 0)
        let bound = try UDPSocket(family: AF_INET, bound: Endpoint(IPAddress(v4: 127, 0, 0, 1), 0))
        #expect(try bound.localName().port != 0)
    }

    @Test("Two of them share a port")
    func sharedPort() throws {
        let first = try UDPSocket(family: AF_INET, bound: Endpoint(IPAddress(v4: 127, 0, 0, 1), 0))
        let name = try first.localName()
        let second = try UDPSocket(family: AF_INET, bound: name)
        #expect(try second.localName() == name)
        let again = try first.localName()
        #expect(again == name)
    }

    @Test("Connecting fills in the address that the route has")
    func connected() throws {
        let loopback = IPAddress(v4: 127, 0, 0, 1)
        let socket = try UDPSocket(family: AF_INET)
        try socket.connect(to: Endpoint(loopback, 4711))
        let name = try socket.localName()
        #expect(name.address == loopback)
        #expect(name.port != 0)
    }

    @Test("Nothing to receive is no datagram, and does not block")
    func nothingToReceive() throws {
        let socket = try UDPSocket(family: AF_INET, bound: Endpoint(IPAddress(v4: 127, 0, 0, 1), 0))
        #expect(socket.receiveAll() == 0)
    }

    @Test("An address that this machine does not have cannot be bound to")
    func foreignAddress() {
        #expect(throws: Errno(EADDRNOTAVAIL)) {
            _ = try UDPSocket(family: AF_INET, bound: Endpoint(IPAddress(v4: 192, 0, 2, 1), 0))
        }
    }

    @Test("A family that does not exist")
    func foreignFamily() {
        #expect(throws: Errno.self) { _ = try UDPSocket(family: 4711) }
    }

    @Test("It sends to the endpoint it is told, from the name it has")
    func udpSends() throws {
        let receiver = try OwnedDescriptor { socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0) }
        let raw = receiver.raw
        // So that a lost datagram is a failure, not a hang.
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        try Errno.check {
            setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        try Errno.check {
            Endpoint(IPAddress(v4: 127, 0, 0, 1), 0).withSocketAddress(family: AF_INET) {
                bind(raw, $0, $1)
            }
        }
        let sender = try UDPSocket(family: AF_INET, bound: Endpoint(IPAddress(v4: 127, 0, 0, 1), 0))
        try sender.send("hello", to: try Endpoint { getsockname(raw, $0, $1) })

        var buffer = [UInt8](repeating: 0, count: 64)
        var count = 0
        let source = try Endpoint { name, length in
            count = recvfrom(raw, &buffer, buffer.count, 0, name, length)
            return count < 0 ? -1 : 0
        }
        #expect(String(decoding: buffer[..<max(0, count)], as: UTF8.self) == "hello")
        let name = try sender.localName()
        #expect(source == name)
    }
}
