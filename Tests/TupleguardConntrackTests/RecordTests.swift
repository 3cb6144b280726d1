// SPDX-License-Identifier: Apache-2.0
// What ctnetlink is asked, and how its answers are read: here the test plays the kernel.

import CTupleguardLinux
import Testing
import TupleguardSocketDiag
import TupleguardSockets

@testable import TupleguardConntrack

private func bytes(_ value: some BitwiseCopyable) -> [UInt8] {
    withUnsafeBytes(of: value) { Array($0) }
}

private func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
    let padding = [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
    return bytes(UInt16(4 + value.count)) + bytes(type) + value + padding
}

private func nested(_ type: UInt16, _ parts: [UInt8]...) -> [UInt8] {
    attribute(type | 0x8000, parts.flatMap(\.self))
}

/// A CTA_TUPLE_ORIG (1) or CTA_TUPLE_REPLY (2).
private func tuple(
    _ type: UInt16, _ source: [UInt8], _ sourcePort: UInt16, _ destination: [UInt8],
    _ destinationPort: UInt16, transport: UInt8 = 17, zone: UInt16? = nil
) -> [UInt8] {
    let first: UInt16 = source.count == 4 ? 1 : 3
    return nested(
        type, nested(1, attribute(first, source), attribute(first + 1, destination)),
        nested(
            2, attribute(1, [transport]), attribute(2, bytes(sourcePort.bigEndian)),
            attribute(3, bytes(destinationPort.bigEndian))),
        zone.map { attribute(3, bytes($0.bigEndian)) } ?? [])
}

private func status(_ bits: UInt32) -> [UInt8] { attribute(3, bytes(bits.bigEndian)) }

/// A connection from 10.0.0.1:30000 to 198.51.100.7:53, which leaves from 192.0.2.1:20001.
private func connection(
    _ bits: UInt32 = 0x1f8, transport: UInt8 = 17, zone: UInt16? = nil, more: [UInt8] = []
) -> [UInt8] {
    [2, 0, 0, 0]
        + tuple(1, [10, 0, 0, 1], 30_000, [198, 51, 100, 7], 53, transport: transport)
        + tuple(
            2, [198, 51, 100, 7], 53, [192, 0, 2, 1], 20_001, transport: transport, zone: zone)
        + status(bits) + more
}

private func read(_ payload: [UInt8]) -> ConntrackRecord? {
    payload.withUnsafeBytes { ConntrackRecord($0) }
}

struct ConntrackRecordTests {
    @Test("The reply, turned round, is what the network outside sees")
    func outer() throws {
        let record = try #require(read(connection()))
        #expect(record.transport == .udp)
        #expect(record.outer.description == "192.0.2.1:20001 -> 198.51.100.7:53")
        #expect(record.isSourceTranslated && !record.isTimeWait && record.zone == 0)
    }

    @Test("IPv6 has its own attributes")
    func version6() throws {
        let (here, there) = (
            [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [1],
            [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [7]
        )
        let payload = [10, 0, 0, 0] + tuple(2, there, 443, here, 40_000, transport: 6) + status(16)
        let record = try #require(read(payload))
        #expect(record.outer.description == "[2001:db8::1]:40000 -> [2001:db8::7]:443")
        #expect(record.transport == .tcp)
    }

    @Test(
        "Translated is what IPS_SRC_NAT says",
        arguments: [(0x10, true), (0x0, false), (0x20, false)])
    func translated(_ bits: UInt32, _ isTranslated: Bool) throws {
        #expect(try #require(read(connection(bits))).isSourceTranslated == isTranslated)
    }

    @Test("A zone of both directions, or of the reply's alone", arguments: [nil, 9] as [UInt16?])
    func zone(_ ofReply: UInt16?) throws {
        #expect(try #require(read(connection(zone: ofReply))).zone == ofReply ?? 0)
        let both = connection(zone: ofReply, more: attribute(18, bytes(UInt16(5).bigEndian)))
        #expect(try #require(read(both)).zone == 5)
    }

    @Test("TIME_WAIT is TCP's state 7", arguments: [(3, false), (7, true)] as [(UInt8, Bool)])
    func timeWait(_ state: UInt8, _ isTimeWait: Bool) throws {
        let payload = connection(transport: 6, more: nested(4, nested(1, attribute(1, [state]))))
        #expect(try #require(read(payload)).isTimeWait == isTimeWait)
    }

    @Test("No record of another protocol, of one without addresses, or of nothing")
    func others() {
        #expect(read(connection(transport: 1)) == nil)
        #expect(read([2, 0, 0, 0] + status(16)) == nil)
        #expect(read([]) == nil)
        // Addresses of neither four nor sixteen bytes.
        #expect(read([2, 0, 0, 0] + tuple(2, [1, 2, 3], 1, [1, 2, 3], 2) + status(16)) == nil)
    }

    @Test("It asks for what is translated, and does not believe that it gets nothing else")
    func request() throws {
        var ends: (Int32, Int32) = (0, 0)
        try Errno.check {
            withUnsafeMutableBytes(of: &ends) {
                socketpair(
                    AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0,
                    $0.baseAddress!.assumingMemoryBound(to: Int32.self))
            }
        }
        let kernel = OwnedDescriptor(taking: ends.0)
        var conntrack = Conntrack(try NetlinkSocket(connected: OwnedDescriptor(taking: ends.1)))
        func answer(_ type: UInt16, _ payload: [UInt8]) throws {
            let message =
                bytes(UInt32(16 + payload.count)) + bytes(type) + bytes(UInt16(2))
                + bytes(UInt32(1)) + bytes(UInt32(0)) + payload
            try Errno.check { send(kernel.raw, message, message.count, 0) }
        }
        try answer(0x100, connection())
        try answer(0x100, connection(0x180))
        try answer(0x102, connection())
        try answer(3, bytes(Int32(0)))
        var ports: [UInt16] = []
        try withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            try conntrack.listTranslated(buffer: buffer) { ports.append($0.outer.local.port) }
        }
        #expect(ports == [20_001])
        var request = [UInt8](repeating: 0, count: 200)
        let count = recv(kernel.raw, &request, request.count, 0)
        let bit = bytes(UInt32(16).bigEndian)
        #expect(
            Array(request.prefix(count))
                == bytes(UInt32(36)) + bytes(UInt16(0x101)) + bytes(UInt16(0x301))
                + bytes(UInt32(1)) + bytes(UInt32(0)) + bytes(UInt32(0)) + attribute(3, bit)
                + attribute(26, bit))
    }
}
