// SPDX-License-Identifier: Apache-2.0
// Sockets for the integration tests: thin, with every outcome visible.

import Glibc
package import TupleguardSockets

/// A socket of a sandbox, which closes it if the test does not.
package struct TestSocket: Sendable {
    package let descriptor: Int32
    package let family: Int32

    package init(descriptor: Int32, family: Int32) {
        self.descriptor = descriptor
        self.family = family
    }

    package func set(_ level: Int32, _ option: Int32, _ value: Int32) throws {
        var value = value
        try Errno.check {
            setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    package func bind(_ name: String) throws {
        let name = Endpoint(name)!
        try Errno.check {
            name.withSocketAddress(family: family) { Glibc.bind(descriptor, $0, $1) }
        }
    }

    /// Binds to an address, and leaves the port to connect() (IP_BIND_ADDRESS_NO_PORT, ip(7)).
    package func bindWithoutPort(_ address: String) throws {
        try set(Int32(IPPROTO_IP), 24, 1)
        try bind("\(address):0")
    }

    /// The value of an integer option; nil when it cannot be read.
    package func get(_ level: Int32, _ option: Int32) -> Int32? {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, level, option, &value, &length) == 0 ? value : nil
    }

    package func bindToDevice(_ device: String) throws {
        try Errno.check {
            setsockopt(
                descriptor, SOL_SOCKET, SO_BINDTODEVICE, device, socklen_t(device.utf8.count + 1))
        }
    }

    /// Connects; the name of the errno, or nil for success.
    ///
    /// - Parameter as: family of the address, where it is not the socket's.
    package func connect(_ name: String, as other: Int32? = nil) -> String? {
        let name = Endpoint(name)!
        let result = name.withSocketAddress(family: other ?? family) {
            Glibc.connect(descriptor, $0, $1)
        }
        return result == 0 ? nil : Errno.last.name
    }

    /// connect(AF_UNSPEC)
    package func disconnect() throws {
        var name = sockaddr()
        name.sa_family = sa_family_t(AF_UNSPEC)
        try Errno.check { Glibc.connect(descriptor, &name, socklen_t(MemoryLayout<sockaddr>.size)) }
    }

    package var local: Endpoint? { try? Endpoint { getsockname(descriptor, $0, $1) } }
    package var remote: Endpoint? { try? Endpoint { getpeername(descriptor, $0, $1) } }

    package func send(_ text: String, to name: Endpoint) throws {
        let bytes = Array(text.utf8)
        try Errno.check {
            name.withSocketAddress(family: family) {
                sendto(descriptor, bytes, bytes.count, 0, $0, $1)
            }
        }
    }

    /// A datagram that is there, or comes within a minute; nil when none does.
    package func receive(waiting milliseconds: Int32 = 60_000) -> String? {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, milliseconds) == 1 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// SO_COOKIE
    package var cookie: UInt64 { number(57) }
    /// SO_NETNS_COOKIE
    package var networkNamespaceCookie: UInt64 { number(71) }

    private func number(_ option: Int32) -> UInt64 {
        var value: UInt64 = 0
        var length = socklen_t(MemoryLayout<UInt64>.size)
        getsockopt(descriptor, SOL_SOCKET, option, &value, &length)
        return value
    }

    package func close() {
        Glibc.close(descriptor)
    }
}

/// The two ends of a Unix stream socket; the caller closes them.
public func connectedUnixSockets() throws -> [Int32] {
    var ends: [Int32] = [0, 0]
    try Errno.check { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) }
    return ends
}
