// SPDX-License-Identifier: Apache-2.0
// What connectx tells the agent, as a datagram of 48 bytes.

package import TupleguardSockets

/// Something that a program's own connect ran into, without the guard.
///
/// It comes from an unprivileged process: all that it says is a claim. Who sent it is not in it;
/// the kernel tells that (SCM_CREDENTIALS).
package struct Notice: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// A tuple that the program named is held by another socket.
        case conflict = 1
        /// A tuple that looked free was another's when it was locked.
        case lostRace = 2
        /// No port is free for the destination.
        case exhausted = 3
    }

    package var kind: Kind
    package var transport: Transport
    /// The local port is 0 when there is none, as in `exhausted`.
    package var tuple: FourTuple
    /// How often it happened since the last notice of this kind, at least 1; the tuple is the
    /// latest one's.
    package var count: UInt32

    package init(kind: Kind, transport: Transport, tuple: FourTuple, count: UInt32) {
        self.kind = kind
        self.transport = transport
        self.tuple = tuple
        self.count = count
    }

    /// The datagram: "tpg" and a version, the kind, the protocol, two zero bytes, the count, the
    /// ports, the addresses (16 bytes each, local first); numbers in network order. The first four
    /// and the length tell it from anything else.
    package typealias Bytes = (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

    package static let size = MemoryLayout<Bytes>.size
    /// "tpg" and version 1.
    private static let magic: UInt64 = 0x7470_6701

    package var bytes: Bytes {
        let head =
            Self.magic << 32 | UInt64(kind.rawValue) << 24 | UInt64(transport.rawValue) << 16
        let numbers =
            UInt64(count) << 32 | UInt64(tuple.local.port) << 16 | UInt64(tuple.remote.port)
        return (
            head.bigEndian, numbers.bigEndian,
            tuple.local.address.high.bigEndian, tuple.local.address.low.bigEndian,
            tuple.remote.address.high.bigEndian, tuple.remote.address.low.bigEndian
        )
    }

    /// Reads a datagram; nil for one that is not exactly what `bytes` makes.
    package init?(_ datagram: UnsafeRawBufferPointer) {
        guard datagram.count == Self.size else { return nil }
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: datagram.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        let head = word(0)
        guard head >> 32 == Self.magic, head & 0xffff == 0,
            let kind = Kind(rawValue: UInt8(truncatingIfNeeded: head >> 24)),
            let transport = Transport(rawValue: UInt8(truncatingIfNeeded: head >> 16))
        else { return nil }
        let numbers = word(1)
        let count = UInt32(truncatingIfNeeded: numbers >> 32)
        let tuple = FourTuple(
            local: Endpoint(
                IPAddress(high: word(2), low: word(3)), UInt16(truncatingIfNeeded: numbers >> 16)),
            remote: Endpoint(
                IPAddress(high: word(4), low: word(5)), UInt16(truncatingIfNeeded: numbers)))
        guard count > 0, tuple.remote.port != 0, tuple.local.port != 0 || kind == .exhausted
        else { return nil }
        self.init(kind: kind, transport: transport, tuple: tuple, count: count)
    }
}
