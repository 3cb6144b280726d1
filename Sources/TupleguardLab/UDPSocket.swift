// SPDX-License-Identifier: Apache-2.0
// A UDP socket with one owner.

import Glibc
import TupleguardSockets

/// A UDP socket that shares its port (SO_REUSEADDR) and does not block.
struct UDPSocket: ~Copyable {
    private let descriptor: OwnedDescriptor
    private let family: Int32

    /// - Parameters:
    ///   - family: AF_INET or AF_INET6.
    ///   - name: what to bind to; nil leaves it unbound, port 0 lets the kernel choose.
    init(family: Int32, bound name: Endpoint? = nil) throws(Errno) {
        let descriptor = try OwnedDescriptor {
            socket(
                family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue),
                0)
        }
        var on: Int32 = 1
        let raw = descriptor.raw
        try Errno.check {
            setsockopt(raw, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        }
        if let name {
            try Errno.check { name.withSocketAddress(family: family) { bind(raw, $0, $1) } }
        }
        self.descriptor = descriptor
        self.family = family
    }

    func connect(to remote: Endpoint) throws(Errno) {
        let raw = descriptor.raw
        try Errno.check { remote.withSocketAddress(family: family) { Glibc.connect(raw, $0, $1) } }
    }

    func localName() throws(Errno) -> Endpoint {
        let raw = descriptor.raw
        return try Endpoint { getsockname(raw, $0, $1) }
    }

    func send(_ text: String, to remote: Endpoint) throws(Errno) {
        let raw = descriptor.raw
        let bytes = Array(text.utf8)
        try Errno.check {
            remote.withSocketAddress(family: family) { sendto(raw, bytes, bytes.count, 0, $0, $1) }
        }
    }

    /// Takes all datagrams that have come; returns how many.
    func receiveAll() -> Int {
        var buffer = [UInt8](repeating: 0, count: 2048)
        var count = 0
        while recv(descriptor.raw, &buffer, buffer.count, 0) >= 0 { count += 1 }
        return count
    }
}
