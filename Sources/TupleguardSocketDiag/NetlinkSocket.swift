// SPDX-License-Identifier: Apache-2.0
// Asking the kernel over netlink(7): one request, its replies.

import CTupleguardLinux
package import TupleguardSockets

/// A netlink socket of the network namespace that the thread was in when it was made.
///
/// Only the kernel is heard: the socket is connected to it.

package struct NetlinkSocket: ~Copyable {
    package enum Family: Int32, Sendable {
        case route = 0  // NETLINK_ROUTE
        case socketDiag = 4  // NETLINK_SOCK_DIAG
        case netfilter = 12  // NETLINK_NETFILTER
    }

    private let kept: KeptSocket
    /// Borrowed: for socket options.
    package var raw: Int32 { kept.raw }
    /// Whether the descriptor is still ours; see `KeptSocket`.
    package var isIntact: Bool { kept.isIntact }
    private var sequence: UInt32 = 0
    /// The kernel answers within the call that asks (netlink_unicast); who waits longer than this
    /// waits for a reply that another took.
    private static let patienceSeconds = 1

    /// - Throws: EPERM, EACCES or another error where a filter (seccomp) refuses netlink.
    package init(_ family: Family) throws(Errno) {
        let descriptor = try OwnedDescriptor {
            socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), family.rawValue)
        }
        var kernel = sockaddr_nl()
        kernel.nl_family = sa_family_t(AF_NETLINK)
        let raw = descriptor.raw
        let result = withUnsafePointer(to: &kernel) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(raw, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
            }
        }
        if result != 0 { throw .last }
        try self.init(connected: descriptor)
    }

    /// Takes over a socket that is connected already. It need not be the kernel's: a test may
    /// answer at the other end.
    package init(connected descriptor: consuming OwnedDescriptor) throws(Errno) {
        let raw = descriptor.raw
        try Errno.check { linux_set_receive_timeout(raw, Self.patienceSeconds) }
        kept = try KeptSocket(descriptor)
    }

    /// Sends a request, and hands each message of the reply to `visit`.
    ///
    /// - Parameters:
    ///   - request: its sequence number is filled in here.
    ///   - buffer: for the replies; a dump is quicker with 32 KB, which is what the kernel
    ///     fills at a time (netlink_dump).
    /// - Throws: the kernel's error; EPROTO for a reply that is none, ETIMEDOUT without any.
    package mutating func ask(
        _ request: inout NetlinkRequest, buffer: UnsafeMutableRawBufferPointer,
        visit: (NetlinkMessage) -> Void
    ) throws(Errno) {
        sequence &+= 1
        let raw = raw
        _ = try request.withMessage(sequence: sequence) { message throws(Errno) in
            try Errno.check { send(raw, message.baseAddress, message.count, 0) }
        }
        while true {
            let count = try receive(into: buffer)
            guard count <= buffer.count else { throw Errno(EMSGSIZE) }
            var messages = NetlinkMessages(
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer).prefix(count)))
            if try read(&messages, isDump: request.flags == .dump, visit: visit) { return }
        }
    }

    private func receive(into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        do throws(Errno) {
            return try Errno.check {
                recv(raw, buffer.baseAddress, buffer.count, Int32(MSG_TRUNC))
            }
        } catch {
            throw error.number == EAGAIN ? Errno(ETIMEDOUT) : error
        }
    }

    /// Whether the reply is complete.
    private func read(
        _ messages: inout NetlinkMessages, isDump: Bool, visit: (NetlinkMessage) -> Void
    ) throws(Errno) -> Bool {
        while let message = messages.next() {
            // What is left of an earlier request that was given up.
            guard message.sequence == sequence else { continue }
            switch message.type {
            case UInt16(NLMSG_ERROR), UInt16(NLMSG_DONE):
                // Both begin with an error number below zero, or 0.
                let error =
                    message.payload.count >= 4 ? message.payload.loadUnaligned(as: Int32.self) : 0
                if error < 0 { throw Errno(error == .min ? EPROTO : -error) }
                return true
            default:
                visit(message)
                if !isDump { return true }
            }
        }
        if messages.isMalformed { throw Errno(EPROTO) }
        return false
    }
}

/// One netlink message: its type, and what follows the header.
package struct NetlinkMessage {
    package let type: UInt16
    package let sequence: UInt32
    package let payload: UnsafeRawBufferPointer
}

/// The messages in a buffer, as far as their lengths can be believed.
package struct NetlinkMessages: IteratorProtocol {
    private var rest: UnsafeRawBufferPointer
    /// Whether bytes were left that are no message.
    package private(set) var isMalformed = false

    private static let headerSize = 16

    package init(_ bytes: UnsafeRawBufferPointer) {
        rest = bytes
    }

    package mutating func next() -> NetlinkMessage? {
        guard !rest.isEmpty else { return nil }
        guard rest.count >= Self.headerSize else { return malformed() }
        let length = Int(rest.loadUnaligned(as: UInt32.self))
        guard length >= Self.headerSize, length <= rest.count else { return malformed() }
        defer { rest = rest.droppingFirst(aligned(length)) }
        return NetlinkMessage(
            type: rest.loadUnaligned(fromByteOffset: 4, as: UInt16.self),
            sequence: rest.loadUnaligned(fromByteOffset: 8, as: UInt32.self),
            payload: UnsafeRawBufferPointer(rebasing: rest[Self.headerSize..<length]))
    }

    private mutating func malformed() -> NetlinkMessage? {
        isMalformed = true
        rest = UnsafeRawBufferPointer(rebasing: rest.prefix(0))
        return nil
    }
}

/// The attributes in a message, as far as their lengths can be believed.
package struct NetlinkAttributes: IteratorProtocol {
    private var rest: UnsafeRawBufferPointer

    package init(_ bytes: UnsafeRawBufferPointer) {
        rest = bytes
    }

    package mutating func next() -> (type: UInt16, value: UnsafeRawBufferPointer)? {
        guard rest.count >= 4 else { return nil }
        let length = Int(rest.loadUnaligned(as: UInt16.self))
        guard length >= 4, length <= rest.count else { return nil }
        defer { rest = rest.droppingFirst(aligned(length)) }
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        let type = rest.loadUnaligned(fromByteOffset: 2, as: UInt16.self) & 0x3fff
        return (type, UnsafeRawBufferPointer(rebasing: rest[4..<length]))
    }
}

/// Messages and attributes begin at multiples of four.
private func aligned(_ length: Int) -> Int { (length + 3) & ~3 }

extension UnsafeRawBufferPointer {
    fileprivate func droppingFirst(_ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: dropFirst(Swift.min(count, self.count)))
    }
}
