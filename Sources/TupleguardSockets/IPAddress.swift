// SPDX-License-Identifier: Apache-2.0
// IPv4 and IPv6 addresses in one form.

import CTupleguardLinux

extension Connectx {
    /// An IPv4 or IPv6 address in the one form that the guard uses: 16 bytes in
    /// network order, IPv4 as ::ffff:a.b.c.d.
    public struct IPAddress: Hashable, Comparable, Sendable, LosslessStringConvertible {
        /// The first and the last eight bytes, as big-endian numbers.
        package let high: UInt64
        package let low: UInt64

        private static let mappedPrefix: UInt64 = 0xffff << 32

        package init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        /// All zero: an address that is not known.
        public static let unspecified = IPAddress(high: 0, low: 0)

        /// From the four words, in network order, that C structs hold an address in.
        package init(networkWords words: (UInt32, UInt32, UInt32, UInt32)) {
            high = UInt64(UInt32(bigEndian: words.0)) << 32 | UInt64(UInt32(bigEndian: words.1))
            low = UInt64(UInt32(bigEndian: words.2)) << 32 | UInt64(UInt32(bigEndian: words.3))
        }

        /// The four words in network order.
        package var networkWords: (UInt32, UInt32, UInt32, UInt32) {
            (
                UInt32(truncatingIfNeeded: high >> 32).bigEndian,
                UInt32(truncatingIfNeeded: high).bigEndian,
                UInt32(truncatingIfNeeded: low >> 32).bigEndian,
                UInt32(truncatingIfNeeded: low).bigEndian
            )
        }

        /// From four bytes, most significant first.
        public init(v4 a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
            high = 0
            low = Self.mappedPrefix | UInt64(a) << 24 | UInt64(b) << 16 | UInt64(c) << 8 | UInt64(d)
        }

        /// Parses "192.0.2.1", "2001:db8::1", "[2001:db8::1]" or "::ffff:192.0.2.1"; nil for
        /// anything else.
        public init?(_ text: some StringProtocol) {
            var text = String(text)
            // inet_pton(3) would not see what follows a NUL.
            guard !text.utf8.contains(0) else { return nil }
            if text.hasPrefix("[") && text.hasSuffix("]") {
                text = String(text.dropFirst().dropLast())
                guard text.contains(":") else { return nil }
            }
            var v4 = in_addr()
            var v6 = in6_addr()
            if inet_pton(AF_INET, text, &v4) == 1 {
                self.init(networkWords: (0, 0, UInt32(0xffff).bigEndian, v4.s_addr))
            } else if inet_pton(AF_INET6, text, &v6) == 1 {
                self.init(networkWords: v6.__in6_u.__u6_addr32)
            } else {
                return nil
            }
        }

        /// Whether it is an IPv4 address (mapped or not: there is no difference here).
        public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

        package var isUnspecified: Bool { self == .unspecified }

        /// Whether it is :: or 0.0.0.0, which stand for any address of this host.
        package var isAny: Bool { high == 0 && (low == 0 || low == Self.mappedPrefix) }

        /// ::1
        public static let loopback6 = IPAddress(high: 0, low: 1)

        /// 224.0.0.0/4, 255.255.255.255 or ff00::/8: a destination that many may receive from.
        package var isMulticast: Bool {
            let v4 = UInt32(truncatingIfNeeded: low)
            return isIPv4 ? v4 >> 28 == 0xe || v4 == .max : high >> 56 == 0xff
        }

        /// fe80::/10, which is somewhere only together with an interface.
        package var isLinkLocal6: Bool { high >> 54 == 0xfe80 >> 6 }

        /// By their 16 bytes.
        public static func < (one: Self, other: Self) -> Bool {
            (one.high, one.low) < (other.high, other.low)
        }

        /// As people write it: IPv4 dotted, IPv6 as in RFC 5952.
        public var description: String {
            var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            if isIPv4 {
                var address = in_addr(s_addr: networkWords.3)
                inet_ntop(AF_INET, &address, &buffer, socklen_t(buffer.count))
            } else {
                var address = in6_addr()
                address.__in6_u.__u6_addr32 = networkWords
                inet_ntop(AF_INET6, &address, &buffer, socklen_t(buffer.count))
            }
            return String(
                decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }
}

package typealias IPAddress = Connectx.IPAddress
