// SPDX-License-Identifier: Apache-2.0
// An address with a port.

import CTupleguardLinux

extension Connectx {
    /// An address and a port, and for a link-local IPv6 address the interface that it belongs to.
    public struct Endpoint: Hashable, Comparable, Sendable, LosslessStringConvertible {
        /// The host. As a destination `0.0.0.0` and `::` stand for this host, as they do for
        /// connect(2).
        public var address: IPAddress
        /// In host order, 0 to 65,535.
        public var port: UInt16
        /// The index of an interface (`sin6_scope_id`), or 0.
        public var scope: UInt32

        /// The port of a host.
        public init(_ address: IPAddress, _ port: UInt16, scope: UInt32 = 0) {
            self.address = address
            self.port = port
            self.scope = scope
        }

        /// Parses "192.0.2.1:53", "[2001:db8::1]:53" or, with an interface by name or index,
        /// "[fe80::1%eth0]:53"; nil for anything else. "*:53" is a host that is not known.
        public init?(_ text: some StringProtocol) {
            guard let colon = text.lastIndex(of: ":") else { return nil }
            let host = text[..<colon]
            let digits = text[text.index(after: colon)...]
            guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let port = UInt16(digits)
            else { return nil }
            if host == "*" {
                self.init(.unspecified, port)
            } else if let percent = host.firstIndex(of: "%") {
                guard host.hasPrefix("["), host.hasSuffix("]"),
                    let address = IPAddress(String(host[..<percent]) + "]"), !address.isIPv4,
                    let scope = interfaceIndex(host[host.index(after: percent)...].dropLast())
                else { return nil }
                self.init(address, port, scope: scope)
            } else {
                guard let address = IPAddress(host), host.hasPrefix("[") || !host.contains(":")
                else { return nil }
                self.init(address, port)
            }
        }

        /// "192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53", or "*:53" when the address is
        /// not known.
        public var description: String {
            if address.isUnspecified && scope == 0 { return "*:\(port)" }
            if address.isIPv4 { return "\(address):\(port)" }
            return scope == 0
                ? "[\(address)]:\(port)" : "[\(address)%\(interfaceName(scope))]:\(port)"
        }

        /// By address, port and scope.
        public static func < (one: Self, other: Self) -> Bool {
            (one.address, one.port, one.scope) < (other.address, other.port, other.scope)
        }
    }
}

package typealias Endpoint = Connectx.Endpoint

/// The index of an interface, by name or by number; nil when there is none of that name.
package func interfaceIndex(_ name: some StringProtocol) -> UInt32? {
    // if_nametoindex(3) would not see what follows a NUL.
    guard !name.utf8.contains(0) else { return nil }
    let index = if_nametoindex(String(name))
    if index != 0 { return index }
    return UInt32(name).flatMap { $0 == 0 ? nil : $0 }
}

/// The name of an interface, or its index where there is none any more.
package func interfaceName(_ index: UInt32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(IF_NAMESIZE)) { buffer in
        if_indextoname(index, buffer.baseAddress!).map { String(cString: $0) } ?? "\(index)"
    }
}
