// SPDX-License-Identifier: Apache-2.0
// The socket beside the caller's whose bind() is to fail.

import CTupleguardLinux
import TupleguardSockets

/// UDP sockets that share ports and are bound to none, one of each family, kept between calls.
///
/// What binding one of them says, and does, stands at `NamespaceView.lock` and `isShared`. One
/// that was bound after all is closed: from then on its bind() would fail for that alone.
struct Barriers: ~Copyable {
    private var v4: KeptSocket?
    private var v6: KeptSocket?

    /// Has one ready for `call`, made in the calling thread's network namespace if need be.
    ///
    /// - Throws: EXDEV when that is not `namespace`; EMFILE, ENFILE, ENOMEM, ENOBUFS.
    mutating func prepare(for call: UDPCall, in namespace: NamespaceIdentity) throws(Errno) {
        try withBarrier(for: call) { barrier throws(Errno) in
            let isReady =
                switch barrier {
                case .some(let barrier): barrier.isIntact
                case nil: false
                }
            if !isReady { barrier = try Self.make(call.socket.family, in: namespace) }
        }
    }

    private static func make(_ family: Int32, in namespace: NamespaceIdentity) throws(Errno)
        -> KeptSocket
    {
        let descriptor = try OwnedDescriptor(openSocket(family, .udp))
        guard try NamespaceIdentity.ofNewSocket(descriptor.raw) == namespace else {
            throw Errno(EXDEV)
        }
        try SocketOption.reuseAddress.set(descriptor.raw, 1)
        // The source may not be this host's: the caller's socket has its own IP_FREEBIND or
        // IP_TRANSPARENT.
        try SocketOption.freeBind.set(descriptor.raw, 1)
        return try KeptSocket(descriptor)
    }

    /// bind(2) to where the caller's socket is or will be: the error's number, or 0; EBADF for a
    /// barrier that was not prepared.
    mutating func bind(beside call: UDPCall, _ port: UInt16) -> Int32 {
        withBarrier(for: call) { barrier in
            let raw =
                switch barrier {
                case .some(let barrier): barrier.raw
                case nil: Int32(-1)
                }
            let socket = Socket(new: raw, family: call.socket.family, transport: .udp)
            let error = socket.bindName(Endpoint(call.local, port), scope: call.destination.scope)
            // Of a link-local address it keeps the interface, though it has failed (__inet6_bind).
            if error == 0 || call.destination.scope != 0 { barrier = nil }
            return error
        }
    }

    private mutating func withBarrier<Result, Failure: Error>(
        for call: UDPCall, _ body: (inout KeptSocket?) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        if call.socket.family == AF_INET { return try body(&v4) }
        return try body(&v6)
    }
}
