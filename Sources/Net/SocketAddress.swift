// SPDX-License-Identifier: Apache-2.0
// The kernel's form of an endpoint, for bind, connect and the names of sockets.

import Glibc

extension Endpoint {
    /// Calls `body` with this endpoint as the `sockaddr` of a socket of `family`
    /// (AF_INET or AF_INET6; an IPv4 address becomes v4-mapped in the latter).
    public func withSocketAddress<Result>(
        family: Int32, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Result
    ) rethrows -> Result {
        if family == AF_INET {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = port.bigEndian
            name.sin_addr.s_addr = address.networkWords.3
            return try withSocketAddress(of: &name, body)
        }
        var name = sockaddr_in6()
        name.sin6_family = sa_family_t(AF_INET6)
        name.sin6_port = port.bigEndian
        name.sin6_addr.__in6_u.__u6_addr32 = address.networkWords
        return try withSocketAddress(of: &name, body)
    }

    private func withSocketAddress<Name, Result>(
        of name: inout Name, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Result
    ) rethrows -> Result {
        try withUnsafePointer(to: &name) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<Name>.size))
            }
        }
    }

    /// The endpoint that `call` (getsockname, getpeername) fills in.
    public init(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) throws(Errno) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
        }
        if result != 0 { throw .last }
        switch Int32(storage.ss_family) {
        case AF_INET:
            self = withUnsafeBytes(of: &storage) { bytes in
                let name = bytes.loadUnaligned(as: sockaddr_in.self)
                return Endpoint(
                    IPAddress(networkWords: (0, 0, UInt32(0xffff).bigEndian, name.sin_addr.s_addr)),
                    UInt16(bigEndian: name.sin_port))
            }
        case AF_INET6:
            self = withUnsafeBytes(of: &storage) { bytes in
                let name = bytes.loadUnaligned(as: sockaddr_in6.self)
                return Endpoint(
                    IPAddress(networkWords: name.sin6_addr.__in6_u.__u6_addr32),
                    UInt16(bigEndian: name.sin6_port))
            }
        default:
            throw Errno(EAFNOSUPPORT)
        }
    }
}
