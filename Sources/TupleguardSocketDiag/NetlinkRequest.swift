// SPDX-License-Identifier: Apache-2.0
// Building a netlink request, with its attributes.

import CTupleguardLinux

/// One message to the kernel (netlink(7)), built in place: no memory is allocated for it.
package struct NetlinkRequest {
    /// NLM_F_REQUEST is set with these.
    package enum Flags: UInt16, Sendable {
        case none = 0
        /// The reply is a success too, when there is nothing else to tell (NLM_F_ACK).
        case acknowledge = 0x4
        /// Everything that matches; the replies end with NLMSG_DONE (NLM_F_DUMP).
        case dump = 0x300
    }

    package let flags: Flags
    /// Of eight bytes each, for alignment.
    private var words = InlineArray<20, UInt64>(repeating: 0)
    private var count = 0

    /// A header, to which a body and attributes are appended: 160 bytes in all at most.
    package init(type: UInt16, flags: Flags = .none) {
        self.flags = flags
        append(UInt32(0))  // the length, see `withMessage`
        append(type)
        append(flags.rawValue | 1)
        append(UInt32(0))  // the sequence number
        append(UInt32(0))  // the port of the sender, which the kernel knows
    }

    /// - Precondition: there is room.
    package mutating func append<Value: BitwiseCopyable>(_ value: Value) {
        let end = count + MemoryLayout<Value>.size
        withUnsafeMutableBytes(of: &words) { bytes in
            precondition(end <= bytes.count, "a netlink request of more than 160 bytes")
            withUnsafeBytes(of: value) {
                UnsafeMutableRawBufferPointer(rebasing: bytes[count..<end]).copyMemory(from: $0)
            }
        }
        count = end
    }

    /// An attribute (struct rtattr) with its padding.
    package mutating func append<Value: BitwiseCopyable>(attribute type: UInt16, _ value: Value) {
        append(UInt16(4 + MemoryLayout<Value>.size))
        append(type)
        append(value)
        count = (count + 3) & ~3
    }

    /// Hands the whole message to `body`, its length and sequence number filled in.
    package mutating func withMessage<Result, Failure: Error>(
        sequence: UInt32, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeMutableBytes(of: &words) { bytes throws(Failure) in
            bytes.storeBytes(of: UInt32(count), as: UInt32.self)
            bytes.storeBytes(of: sequence, toByteOffset: 8, as: UInt32.self)
            return try body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        }
    }
}
