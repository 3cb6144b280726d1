// SPDX-License-Identifier: Apache-2.0
// A tracked connection as the kernel describes it over ctnetlink.

import CTupleguardLinux
import TupleguardSocketDiag
package import TupleguardSockets

/// What ctnetlink says of one TCP or UDP connection.
package struct ConntrackRecord: Hashable, Sendable {
    package let transport: Transport
    /// As the network outside has it: local is the address and port that packets leave from, remote
    /// who answers. It is the connection's reply, turned round; the kernel lets no other connection
    /// have the same (nf_nat_used_tuple).
    package let outer: FourTuple
    /// Each conntrack zone has its connections for itself.
    package let zone: UInt16
    package let isSourceTranslated: Bool
    /// Over, and remembered for another two minutes (TCP).
    package let isTimeWait: Bool

    /// IPS_SRC_NAT of enum ip_conntrack_status.
    static let sourceTranslated: UInt32 = 1 << 4
    private static let headerSize = 4  // struct nfgenmsg
    private static let timeWaitState: UInt8 = 7  // TCP_CONNTRACK_TIME_WAIT

    /// enum ctattr_type
    private enum Attribute {
        static let reply: UInt16 = 2
        static let status: UInt16 = 3
        static let protocolState: UInt16 = 4
        static let zone: UInt16 = 18
    }

    package init(
        transport: Transport, outer: FourTuple, zone: UInt16, isSourceTranslated: Bool,
        isTimeWait: Bool
    ) {
        self.transport = transport
        self.outer = outer
        self.zone = zone
        self.isSourceTranslated = isSourceTranslated
        self.isTimeWait = isTimeWait
    }

    /// Reads the payload of an IPCTNL_MSG_CT_NEW message; nil for one that is too short or of
    /// another protocol.
    package init?(_ payload: UnsafeRawBufferPointer) {
        guard payload.count >= Self.headerSize else { return nil }
        var reply: Tuple?
        var status: UInt32 = 0
        var (zone, isTimeWait) = (nil as UInt16?, false)
        var attributes = NetlinkAttributes(
            UnsafeRawBufferPointer(rebasing: payload.dropFirst(Self.headerSize)))
        while let (type, value) = attributes.next() {
            switch type {
            case Attribute.reply: reply = Tuple(value)
            case Attribute.status: status = value.number() ?? 0
            case Attribute.protocolState: isTimeWait = Self.tcpState(value) == Self.timeWaitState
            case Attribute.zone: zone = value.number()
            default: break
            }
        }
        guard let reply, let transport = reply.transport, let source = reply.source,
            let destination = reply.destination
        else { return nil }
        self.init(
            transport: transport,
            outer: FourTuple(
                local: Endpoint(destination, reply.destinationPort),
                remote: Endpoint(source, reply.sourcePort)),
            zone: zone ?? reply.zone ?? 0,
            isSourceTranslated: status & Self.sourceTranslated != 0, isTimeWait: isTimeWait)
    }

    /// CTA_PROTOINFO_TCP_STATE in CTA_PROTOINFO_TCP, both number 1; nil for another protocol.
    private static func tcpState(_ information: UnsafeRawBufferPointer) -> UInt8? {
        first(1, in: information).flatMap { first(1, in: $0)?.first }
    }

    private static func first(
        _ wanted: UInt16, in bytes: UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        var attributes = NetlinkAttributes(bytes)
        while let (type, value) = attributes.next() {
            if type == wanted { return value }
        }
        return nil
    }
}

/// What is in a CTA_TUPLE_REPLY.
private struct Tuple {
    private(set) var transport: Transport?
    private(set) var source: IPAddress?
    private(set) var destination: IPAddress?
    private(set) var sourcePort: UInt16 = 0
    private(set) var destinationPort: UInt16 = 0
    private(set) var zone: UInt16?

    init(_ bytes: UnsafeRawBufferPointer) {
        var attributes = NetlinkAttributes(bytes)
        while let (type, value) = attributes.next() {
            switch type {  // enum ctattr_tuple
            case 1: readAddresses(value)
            case 2: readProtocol(value)
            case 3: zone = value.number()
            default: break
            }
        }
    }

    private mutating func readAddresses(_ bytes: UnsafeRawBufferPointer) {
        var attributes = NetlinkAttributes(bytes)
        while let (type, value) = attributes.next() {
            switch type {  // enum ctattr_ip: v4 source and destination, those of v6
            case 1, 3: source = IPAddress(networkBytes: value)
            case 2, 4: destination = IPAddress(networkBytes: value)
            default: break
            }
        }
    }

    private mutating func readProtocol(_ bytes: UnsafeRawBufferPointer) {
        var attributes = NetlinkAttributes(bytes)
        while let (type, value) = attributes.next() {
            switch type {  // enum ctattr_l4proto
            case 1: transport = value.first.flatMap { Transport(rawValue: $0) }
            case 2: sourcePort = value.number() ?? 0
            case 3: destinationPort = value.number() ?? 0
            default: break
            }
        }
    }
}

extension UnsafeRawBufferPointer {
    /// In network order; nil where there are too few bytes.
    fileprivate func number<Number: FixedWidthInteger>() -> Number? {
        count >= MemoryLayout<Number>.size ? Number(bigEndian: loadUnaligned(as: Number.self)) : nil
    }
}

extension IPAddress {
    /// From the 4 or 16 bytes of an attribute.
    fileprivate init?(networkBytes bytes: UnsafeRawBufferPointer) {
        switch bytes.count {
        case 4:
            self.init(
                networkWords: (0, 0, UInt32(0xffff).bigEndian, bytes.loadUnaligned(as: UInt32.self))
            )
        case 16:
            self.init(networkWords: bytes.loadUnaligned(as: (UInt32, UInt32, UInt32, UInt32).self))
        default: return nil
        }
    }
}
