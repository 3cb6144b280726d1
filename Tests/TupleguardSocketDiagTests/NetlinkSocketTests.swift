// SPDX-License-Identifier: Apache-2.0
// Requests as they go out, and replies as they are read: here the test plays the kernel.

import CTupleguardLinux
import Testing
import TupleguardSockets

@testable import TupleguardSocketDiag

private func bytes(_ value: some BitwiseCopyable) -> [UInt8] {
    withUnsafeBytes(of: value) { Array($0) }
}

struct NetlinkRequestTests {
    @Test("A header, then what was added; numbers as the machine has them")
    func layout() {
        var request = NetlinkRequest(type: 20, flags: .dump)
        request.append(UInt32(0x0403_0201))
        request.append(attribute: 5, UInt64(9))
        request.append(attribute: 6, UInt8(7))
        let made = request.withMessage(sequence: 3) { Array($0) }
        #expect(
            made
                == bytes(UInt32(40)) + bytes(UInt16(20)) + bytes(UInt16(0x301)) + bytes(UInt32(3))
                + bytes(UInt32(0)) + [1, 2, 3, 4] + bytes(UInt16(12)) + bytes(UInt16(5))
                + bytes(UInt64(9)) + bytes(UInt16(5)) + bytes(UInt16(6)) + [7, 0, 0, 0])
    }
}

/// A socket whose other end is the test's.
private struct Conversation: ~Copyable {
    let kernel: OwnedDescriptor
    var diag: SocketDiag

    init() throws {
        var ends: (Int32, Int32) = (0, 0)
        try Errno.check {
            withUnsafeMutableBytes(of: &ends) {
                socketpair(
                    AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0,
                    $0.baseAddress!.assumingMemoryBound(to: Int32.self))
            }
        }
        let kernel = OwnedDescriptor(taking: ends.0)
        let netlink = try NetlinkSocket(connected: OwnedDescriptor(taking: ends.1))
        self.kernel = kernel
        diag = SocketDiag(netlink, namespace: NamespaceIdentity(cookie: 1))
    }

    /// A message that will be read as a reply to the request with this number.
    func answer(type: UInt16, sequence: UInt32, _ payload: [UInt8], length: Int? = nil) throws {
        let message =
            bytes(UInt32(length ?? 16 + payload.count)) + bytes(type) + bytes(UInt16(0))
            + bytes(sequence) + bytes(UInt32(0)) + payload
        try Errno.check { send(kernel.raw, message, message.count, 0) }
    }
}

struct NetlinkSocketTests {
    private let tuple = FourTuple(
        local: Endpoint(IPAddress(v4: 10, 0, 0, 1), 40_000),
        remote: Endpoint(IPAddress(v4: 10, 0, 0, 2), 53))

    private func record(cookie: UInt32) -> [UInt8] {
        var body = inet_diag_msg()
        body.idiag_family = UInt8(AF_INET)
        body.id.idiag_cookie = (cookie, 0)
        return bytes(body)
    }

    @Test("A request for one socket: its packet's tuple, source first")
    func request() throws {
        var conversation = try Conversation()
        try conversation.answer(type: 2, sequence: 1, bytes(-ENOENT))
        #expect(try conversation.diag.receiver(of: tuple, interface: 3) == nil)
        var request = [UInt8](repeating: 0, count: 200)
        #expect(recv(conversation.kernel.raw, &request, request.count, 0) == 72)
        let body = request.withUnsafeBytes {
            $0.loadUnaligned(fromByteOffset: 16, as: inet_diag_req_v2.self)
        }
        #expect(body.sdiag_family == AF_INET && body.sdiag_protocol == 17)
        #expect(UInt16(bigEndian: body.id.idiag_sport) == 53)
        #expect(UInt16(bigEndian: body.id.idiag_dport) == 40_000)
        #expect(body.id.idiag_if == 3)
    }

    @Test("What an earlier request was answered is passed over")
    func staleReply() throws {
        var conversation = try Conversation()
        try conversation.answer(type: 20, sequence: 0, record(cookie: 1))
        try conversation.answer(type: 20, sequence: 1, record(cookie: 2))
        #expect(try conversation.diag.receiver(of: tuple)?.cookie == 2)
    }

    @Test("A listing ends with NLMSG_DONE, and with the error that it tells")
    func listing() throws {
        var conversation = try Conversation()
        var cookies: [UInt64] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
        defer { buffer.deallocate() }
        try conversation.answer(type: 20, sequence: 1, record(cookie: 1))
        try conversation.answer(type: 20, sequence: 1, record(cookie: 2))
        try conversation.answer(type: 3, sequence: 1, bytes(Int32(0)))
        try conversation.diag.list(.udp, family: AF_INET, buffer: buffer) {
            cookies.append($0.cookie)
        }
        #expect(cookies == [1, 2])
        try conversation.answer(type: 3, sequence: 2, bytes(-EBUSY))
        #expect(throws: Errno(EBUSY)) {
            try conversation.diag.list(.tcp, family: AF_INET6, buffer: buffer) { _ in }
        }
    }

    @Test("A reply that is none, and one that is too long")
    func damaged() throws {
        var conversation = try Conversation()
        try conversation.answer(type: 20, sequence: 1, [1, 2, 3, 4], length: 3)
        #expect(throws: Errno(EPROTO)) { try conversation.diag.receiver(of: tuple) }
        try conversation.answer(type: 20, sequence: 2, [UInt8](repeating: 0, count: 2000))
        #expect(throws: Errno(EMSGSIZE)) { try conversation.diag.receiver(of: tuple) }
    }
}
