// SPDX-License-Identifier: Apache-2.0
// Addresses in the memory of programs whose bind() `exec --defer-bind` looks at.

import Glibc
import TupleguardDeferral
import TupleguardSockets

/// What a program says about its address: how long it is, in four bytes, then as much memory as
/// follows here. An address that is read from there is the one that the kernel would bind to.
@Sendable func acceptsBindAddress(_ input: UnsafeRawBufferPointer) throws -> Bool {
    guard input.count >= 4 else { return false }
    let length = input.loadUnaligned(as: UInt32.self)
    let memory = LastBytes.beforeNothing.hold(UnsafeRawBufferPointer(rebasing: input.dropFirst(4)))
    let name: SocketName?
    do throws(Errno) {
        name = try SocketName.read(
            fromThread: UInt32(getpid()), at: UInt64(UInt(bitPattern: memory.baseAddress)),
            length: length)
    } catch {
        try require(
            error.number == EFAULT && memory.isEmpty && length > 0, "memory not read: \(error)")
        return false
    }
    guard let name else { return false }
    let readable = min(Int(length), memory.count)
    try name.endpoint.withSocketAddress(
        family: name.family, scope: name.scope, flowInfo: name.flowInfo
    ) { address, size in
        let bytes = UnsafeRawBufferPointer(start: address, count: Int(size))
        // The rest of sockaddr_in is padding. That of sockaddr_in6, a scope, may be left out.
        let size = name.family == AF_INET ? 8 : min(bytes.count, readable)
        try require(size <= readable, "\(size) bytes of \(readable)")
        try require(bytes.prefix(size).elementsEqual(memory.prefix(size)), "another address")
        let isRestEmpty = bytes.dropFirst(size).allSatisfy { $0 == 0 }
        try require(isRestEmpty, "more of an address than there was")
    }
    return true
}

/// Memory after which there is none: what reads on is refused.
private struct LastBytes: @unchecked Sendable {
    private let page: UnsafeMutableRawPointer
    private static let pageSize = sysconf(Int32(_SC_PAGESIZE))

    static let beforeNothing = LastBytes()

    private init() {
        let two = mmap(
            nil, 2 * Self.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let two, two != MAP_FAILED,
            mprotect(two + Self.pageSize, Self.pageSize, PROT_NONE) == 0
        else { fatalError("no memory for addresses: \(Errno.last)") }
        page = two
    }

    /// The first bytes, a page's at most, so that the last of them is the last there is.
    func hold(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let count = min(bytes.count, Self.pageSize)
        let start = page + (Self.pageSize - count)
        start.copyMemory(from: bytes.baseAddress ?? UnsafeRawPointer(start), byteCount: count)
        return UnsafeRawBufferPointer(start: start, count: count)
    }
}
