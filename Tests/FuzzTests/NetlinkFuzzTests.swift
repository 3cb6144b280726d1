// SPDX-License-Identifier: Apache-2.0
// Replies come from the kernel; their lengths are believed as far as the buffer goes.

import CTupleguardLinux
import Testing
import TupleguardConntrack
import TupleguardSocketDiag
import TupleguardSockets

struct NetlinkFuzzTests {
    private static func bytes(_ value: some BitwiseCopyable) -> [UInt8] {
        withUnsafeBytes(of: value) { Array($0) }
    }

    private static func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
        let padding = [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        return bytes(UInt16(4 + value.count)) + bytes(type) + value + padding
    }

    private static func message(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
        bytes(UInt32(16 + payload.count)) + bytes(type) + bytes(UInt16(2)) + bytes(UInt32(7))
            + bytes(UInt32(0)) + payload
    }

    private static func socket(_ family: Int32) -> [UInt8] {
        var body = inet_diag_msg()
        body.idiag_family = UInt8(family)
        body.idiag_state = 1
        return bytes(body)
    }

    /// A tracked connection's reply and status, nested as ctnetlink does it.
    private static func connection() -> [UInt8] {
        let addresses = attribute(1, [198, 51, 100, 7]) + attribute(2, [192, 0, 2, 1])
        let ports = attribute(1, [17]) + attribute(2, [0, 53]) + attribute(3, [78, 33])
        let tuple = attribute(0x8001, addresses) + attribute(0x8002, ports)
        return [2, 0, 0, 0] + attribute(0x8002, tuple) + attribute(3, [0, 0, 0, 16])
    }

    private static func replies() -> [[UInt8]] {
        let attributes =
            attribute(21, bytes(UInt64(4711))) + attribute(8, [1]) + attribute(0x8001, [1, 2, 3])
        let one = message(20, socket(AF_INET) + attributes)
        let other = message(20, socket(AF_INET6))
        return [
            message(0x100, connection()), one, other, one + other + message(3, bytes(Int32(0))),
            message(2, bytes(Int32(-2))),
            message(20, []), one + one + one, [],
        ]
    }

    /// Reads all of it, so that a place outside would be noticed.
    private static func touch(_ bytes: UnsafeRawBufferPointer) -> Int {
        bytes.reduce(0) { $0 &+ Int($1) }
    }

    private static func isInside(_ part: UnsafeRawBufferPointer, _ whole: UnsafeRawBufferPointer)
        -> Bool
    {
        guard let start = part.baseAddress, let first = whole.baseAddress else {
            return part.isEmpty
        }
        return start >= first && start + part.count <= first + whole.count
    }

    /// Walks the attributes; false when they are outside, or more than there can be.
    private static func areAttributesSound(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var attributes = NetlinkAttributes(bytes)
        var count = 0
        while let attribute = attributes.next() {
            count += 1
            _ = touch(attribute.value)
            guard isInside(attribute.value, bytes), attribute.type <= 0x3fff,
                count <= bytes.count / 4
            else { return false }
        }
        return attributes.next() == nil
    }

    /// Walks the messages; nil when one is outside, or there are more than there can be.
    private static func countRecords(_ bytes: UnsafeRawBufferPointer) -> Int? {
        var messages = NetlinkMessages(bytes)
        var (count, records) = (0, 0)
        while let message = messages.next() {
            count += 1
            _ = touch(message.payload)
            guard isInside(message.payload, bytes), count <= bytes.count / 16,
                areAttributesSound(message.payload)
            else { return nil }
            if SocketRecord(message.payload) != nil { records += 1 }
            if ConntrackRecord(message.payload) != nil { records += 1 }
        }
        return messages.next() == nil ? records : nil
    }

    @Test("Whatever comes is read to its end, and nothing beside it is")
    func replies() {
        var fuzzer = Fuzzer(seed: 0x6e65_746c_696e_6b, valid: Self.replies())
        var records = 0
        var unsound = 0
        for _ in 0..<Fuzzer.inputs {
            withExactMemory(fuzzer.next()) { bytes in
                guard let count = Self.countRecords(bytes) else {
                    unsound += 1
                    return
                }
                records += count
                if !Self.areAttributesSound(bytes) { unsound += 1 }
                _ = SocketRecord(bytes)
            }
        }
        #expect(unsound == 0)
        // Otherwise it has seen nothing but the first header.
        #expect(records > Fuzzer.inputs / 20)
    }
}
