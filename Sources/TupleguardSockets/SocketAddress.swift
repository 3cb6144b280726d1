// SPDX-License-Identifier: Apache-2.0
// The kernel's form of an endpoint, for bind, connect and the names of sockets.

package import CTupleguardLinux

extension Endpoint {
    /// Calls `body` with this endpoint as the `sockaddr` of a socket of `family`
    /// (AF_INET or AF_INET6; an IPv4 address becomes v4-mapped in the latter).
    ///
    /// - Parameters:
    ///   - scope: the interface that a link-local address belongs to (`sin6_scope_id`).
    ///   - flowInfo: `sin6_flowinfo`, in network order.
    package func withSocketAddress<Result, Failure: Error>(
        family: Int32, scope: UInt32 = 0, flowInfo: UInt32 = 0,
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Failure) -> Result
    ) throws(Failure) -> Result {
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
        name.sin6_scope_id = scope
        name.sin6_flowinfo = flowInfo
        return try withSocketAddress(of: &name, body)
    }

    private func withSocketAddress<Name, Result, Failure: Error>(
        of name: inout Name,
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafePointer(to: &name) { pointer throws(Failure) in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name throws(Failure) in
                try body(name, socklen_t(MemoryLayout<Name>.size))
            }
        }
    }

    /// The endpoint that `call` (getsockname, getpeername) fills in.
    package init(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) throws(Errno) {
        self = try SocketName(call).endpoint
    }
}

/// A `sockaddr_in` or `sockaddr_in6` with all that it says.
package struct SocketName: Hashable, Sendable {
    /// AF_INET or AF_INET6: of the structure, whatever the address in it.
    package let family: Int32
    package let endpoint: Endpoint
    /// `sin6_scope_id`: the index of an interface, or 0.
    package let scope: UInt32
    /// `sin6_flowinfo`, in network order, or 0.
    package let flowInfo: UInt32

    /// With the scope.
    package var scopedEndpoint: Endpoint {
        Endpoint(endpoint.address, endpoint.port, scope: scope)
    }

    /// Reads a `sockaddr` of `bytes.count` bytes, as a caller of connect(2) gives it.
    ///
    /// - Throws: EINVAL for one that is too short, EAFNOSUPPORT for another family.
    package init(_ bytes: UnsafeRawBufferPointer) throws(Errno) {
        guard bytes.count >= MemoryLayout<sa_family_t>.size else { throw Errno(EINVAL) }
        family = Int32(bytes.loadUnaligned(as: sa_family_t.self))
        switch family {
        case AF_INET:
            guard bytes.count >= MemoryLayout<sockaddr_in>.size else { throw Errno(EINVAL) }
            let name = bytes.loadUnaligned(as: sockaddr_in.self)
            endpoint = Endpoint(
                IPAddress(networkWords: (0, 0, UInt32(0xffff).bigEndian, name.sin_addr.s_addr)),
                UInt16(bigEndian: name.sin_port))
            scope = 0
            flowInfo = 0
        case AF_INET6:
            // Without sin6_scope_id it is what the kernel accepts as well (SIN6_LEN_RFC2133).
            guard bytes.count >= MemoryLayout<sockaddr_in6>.size - MemoryLayout<UInt32>.size
            else { throw Errno(EINVAL) }
            var name = sockaddr_in6()
            withUnsafeMutableBytes(of: &name) { name in
                name.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes.prefix(name.count)))
            }
            endpoint = Endpoint(
                IPAddress(networkWords: name.sin6_addr.__in6_u.__u6_addr32),
                UInt16(bigEndian: name.sin6_port))
            scope = name.sin6_scope_id
            flowInfo = name.sin6_flowinfo
        default:
            throw Errno(EAFNOSUPPORT)
        }
    }

    /// The name that `call` (getsockname, getpeername) fills in.
    package init(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) throws(Errno) {
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
        }
        if result != 0 { throw .last }
        let count = min(Int(length), MemoryLayout<sockaddr_in6>.size)
        self = try withUnsafeBytes(of: &storage) { bytes throws(Errno) in
            try SocketName(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)))
        }
    }
}
