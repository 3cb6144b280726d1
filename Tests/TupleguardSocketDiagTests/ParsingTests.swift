// SPDX-License-Identifier: Apache-2.0
// Replies of sock_diag(7), made by hand.

import CTupleguardLinux
import Testing
import TupleguardSockets

@testable import TupleguardSocketDiag

private func bytes(_ value: some BitwiseCopyable) -> [UInt8] {
    withUnsafeBytes(of: value) { Array($0) }
}

/// A message with the length that it says it has, or with another one.
private func message(
    _ payload: [UInt8], type: UInt16 = 20, sequence: UInt32 = 7, length: Int? = nil
) -> [UInt8] {
    bytes(UInt32(length ?? 16 + payload.count)) + bytes(type) + bytes(UInt16(2))
        + bytes(sequence) + bytes(UInt32(0)) + payload
}

private func attribute(_ type: UInt16, _ value: [UInt8], length: Int? = nil) -> [UInt8] {
    bytes(UInt16(length ?? 4 + value.count)) + bytes(type) + value
}

struct NetlinkMessagesTests {
    private struct Read: Equatable {
        var messages: [[UInt8]] = []
        var isMalformed = false
    }

    private func read(_ input: [UInt8]) -> Read {
        input.withUnsafeBytes { input in
            var messages = NetlinkMessages(input)
            var read = Read()
            while let message = messages.next() { read.messages.append(Array(message.payload)) }
            read.isMalformed = messages.isMalformed
            return read
        }
    }

    @Test("Type, sequence number and payload of each")
    func fields() {
        let input = message([1, 2, 3, 4], type: 3, sequence: 0xffff_fffe) + message([5])
        input.withUnsafeBytes { input in
            var messages = NetlinkMessages(input)
            let first = messages.next()
            #expect(first?.type == 3)
            #expect(first?.sequence == 0xffff_fffe)
            #expect(first.map { Array($0.payload) } == [1, 2, 3, 4])
            #expect(messages.next().map { Array($0.payload) } == [5])
            #expect(messages.next() == nil)
            #expect(!messages.isMalformed)
        }
    }

    @Test("Each begins at a multiple of four; the last needs no padding")
    func alignment() {
        for count in 0..<9 {
            let payload = [UInt8](repeating: 1, count: count)
            let padding = [UInt8](repeating: 0xee, count: (4 - count % 4) % 4)
            let input = message(payload) + padding + message(payload)
            #expect(read(input) == Read(messages: [payload, payload]), "\(count)")
        }
    }

    @Test("Nothing is no message, and not malformed")
    func empty() {
        #expect(read([]) == Read())
    }

    @Test(
        "A length that cannot be ends it: what came before counts",
        arguments: [0, 1, 15, 18, 1000, 0xffff_ffff])
    func lengths(length: Int) {
        let good = message([1, 2, 3, 4])
        #expect(
            read(good + message([9], length: length))
                == Read(messages: [[1, 2, 3, 4]], isMalformed: true))
    }

    @Test("A header that is cut off")
    func truncated() {
        let good = message([1, 2, 3, 4])
        for count in 1..<good.count {
            #expect(
                read(good + good.prefix(count))
                    == Read(messages: [[1, 2, 3, 4]], isMalformed: true))
        }
    }
}

struct NetlinkAttributesTests {
    private func read(_ input: [UInt8]) -> [[UInt8]] {
        input.withUnsafeBytes { input in
            var attributes = NetlinkAttributes(input)
            var values: [[UInt8]] = []
            while let attribute = attributes.next() {
                values.append([UInt8(truncatingIfNeeded: attribute.type)] + attribute.value)
            }
            return values
        }
    }

    @Test("Type and value of each, at multiples of four")
    func values() {
        #expect(read([]) == [])
        #expect(
            read(attribute(1, [7]) + [0, 0, 0] + attribute(2, []) + attribute(3, [8, 9]))
                == [[1, 7], [2], [3, 8, 9]])
    }

    @Test("The flags of a type are no part of it")
    func flags() {
        #expect(read(attribute(0xc003, [1])) == [[3, 1]])
    }

    @Test("A length that cannot be ends it", arguments: [0, 3, 6, 0xffff])
    func lengths(length: Int) {
        #expect(
            read(attribute(1, [1, 2, 3, 4]) + attribute(2, [9], length: length)) == [
                [1, 1, 2, 3, 4]
            ])
    }

    @Test("One that is cut off is none")
    func truncated() {
        for count in 0..<4 { #expect(read([UInt8](repeating: 4, count: count)) == []) }
    }
}

struct SocketRecordTests {
    private func body(_ family: Int32 = AF_INET) -> inet_diag_msg {
        var body = inet_diag_msg()
        body.idiag_family = UInt8(family)
        body.idiag_state = 1
        body.id.idiag_sport = UInt16(40_000).bigEndian
        body.id.idiag_dport = UInt16(53).bigEndian
        body.id.idiag_if = 3
        body.id.idiag_cookie = (0x89ab_cdef, 0x0123_4567)
        body.idiag_uid = 1000
        body.idiag_inode = 4711
        return body
    }

    private func parse(_ payload: [UInt8]) -> SocketRecord? {
        payload.withUnsafeBytes { SocketRecord($0) }
    }

    @Test("What the kernel says of an IPv4 socket")
    func v4() throws {
        var body = body()
        body.id.idiag_src.0 = UInt32(0xc000_0201).bigEndian
        body.id.idiag_dst.0 = UInt32(0xc633_6407).bigEndian
        let record = try #require(parse(bytes(body)))
        #expect(record.tuple.description == "192.0.2.1:40000 -> 198.51.100.7:53")
        #expect(record.family == AF_INET)
        #expect(record.state == 1)
        #expect(record.isConnected)
        #expect(record.interface == 3)
        #expect(record.cookie == 0x0123_4567_89ab_cdef)
        #expect(record.uid == 1000)
        #expect(record.inode == 4711)
        #expect(record.cgroup == 0)
    }

    @Test("An IPv6 socket, and one with mapped addresses")
    func v6() throws {
        var body = body(AF_INET6)
        body.id.idiag_src = (UInt32(0x2001_0db8).bigEndian, 0, 0, UInt32(1).bigEndian)
        body.id.idiag_dst = (
            0, 0, UInt32(0xffff).bigEndian, UInt32(0xc633_6407).bigEndian
        )
        let record = try #require(parse(bytes(body)))
        #expect(record.tuple.description == "[2001:db8::1]:40000 -> 198.51.100.7:53")
    }

    @Test("No address is unspecified in both families", arguments: [AF_INET, AF_INET6])
    func unspecified(family: Int32) throws {
        var body = body(family)
        body.idiag_state = 7
        let record = try #require(parse(bytes(body)))
        #expect(record.tuple.local.address.isUnspecified)
        #expect(record.tuple.remote.address.isUnspecified)
        #expect(!record.isConnected)
    }

    @Test("The cgroup is an attribute of eight bytes, wherever it stands")
    func cgroup() {
        let id = attribute(21, bytes(UInt64(4711)))
        #expect(parse(bytes(body()) + id)?.cgroup == 4711)
        #expect(parse(bytes(body()) + attribute(8, [1, 2, 3, 4]) + id)?.cgroup == 4711)
        #expect(parse(bytes(body()) + attribute(21, [1, 2, 3, 4]))?.cgroup == 0)
        #expect(parse(bytes(body()) + id.dropLast())?.cgroup == 0)
    }

    @Test("Too short, or of another family: none")
    func none() {
        let whole = bytes(body())
        for count in 0..<whole.count { #expect(parse(Array(whole.prefix(count))) == nil) }
        #expect(parse(bytes(body(AF_UNIX))) == nil)
    }
}
