// SPDX-License-Identifier: Apache-2.0
// Which ports are in use, and which of them more than once: 16 KB of bits.

/// Counts for each port whether it was met never, once, or more often.
///
/// The library's set of ports is another: it is searched, not counted, and compiled for Embedded
/// Swift.
struct PortBits: Sendable {
    private var once = [UInt64](repeating: 0, count: 1024)
    private var again = [UInt64](repeating: 0, count: 1024)

    mutating func insert(_ port: UInt16) {
        let word = Int(port >> 6)
        let bit: UInt64 = 1 << UInt64(port & 63)
        again[word] |= once[word] & bit
        once[word] |= bit
    }

    mutating func remove(_ port: UInt16) {
        let word = Int(port >> 6)
        let others = ~(1 << UInt64(port & 63) as UInt64)
        once[word] &= others
        again[word] &= others
    }

    func contains(_ port: UInt16) -> Bool { once[Int(port >> 6)] & 1 << UInt64(port & 63) != 0 }
    func isShared(_ port: UInt16) -> Bool { again[Int(port >> 6)] & 1 << UInt64(port & 63) != 0 }

    var count: Int { once.reduce(0) { $0 + $1.nonzeroBitCount } }
    var sharedCount: Int { again.reduce(0) { $0 + $1.nonzeroBitCount } }

    /// How many ports are in use here or there.
    func count(with other: PortBits) -> Int {
        zip(once, other.once).reduce(0) { $0 + ($1.0 | $1.1).nonzeroBitCount }
    }

    /// How many ports with an odd distance from `base` are in use.
    func oddCount(from base: UInt16) -> Int {
        let odd: UInt64 = base & 1 == 0 ? 0xaaaa_aaaa_aaaa_aaaa : 0x5555_5555_5555_5555
        return once.reduce(0) { $0 + ($1 & odd).nonzeroBitCount }
    }
}
