// SPDX-License-Identifier: Apache-2.0
// An address with a port.

/// An address and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// The host.
    public var address: IPAddress
    /// In host order, 0 to 65,535.
    public var port: UInt16

    /// The port of a host.
    public init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }

    /// Parses "192.0.2.1:53" or "[2001:db8::1]:53"; nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits),
            let address = IPAddress(host), host.hasPrefix("[") || !host.contains(":")
        else { return nil }
        self.init(address, port)
    }

    /// "192.0.2.1:53", "[2001:db8::1]:53", or "*:53" when the address is not known.
    public var description: String {
        if address.isUnspecified { return "*:\(port)" }
        return address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
    }
}
