// SPDX-License-Identifier: Apache-2.0
// Sources and destinations as people write them, and addresses as JSON and the like have them.

public import ConnectxCore
public import TupleguardSockets

extension Connectx.Source {
    /// Parses an address ("192.0.2.1", "2001:db8::1") or an address and a port
    /// ("192.0.2.1:4000", "[2001:db8::1]:4000", "*:4000"); nil for anything else.
    public init?(_ text: some StringProtocol) {
        if let address = IPAddress(text) {
            self.init(Endpoint(address, 0))
        } else {
            guard let endpoint = Endpoint(text) else { return nil }
            self.init(endpoint)
        }
    }
}

extension Connectx.Destinations {
    /// Parses one destination, several with commas between them, or a range of IPv4 addresses:
    /// "127.0.0.1-127.0.0.254:80". Nil for anything else, and for more than 65,536 of them.
    public convenience init?(_ text: some StringProtocol) {
        var all: [Endpoint] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let some = Self.range(String(part)), all.count + some.count <= 65_536 else {
                return nil
            }
            all += some
        }
        try? self.init(all)
    }

    private static func range(_ text: String) -> [Endpoint]? {
        if let destination = Endpoint(text) { return [destination] }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, let first = IPAddress(ends[0]), let last = Endpoint(ends[1]),
            first.isIPv4, last.address.isIPv4
        else { return nil }
        let from = UInt32(bigEndian: first.networkWords.3)
        let to = UInt32(bigEndian: last.address.networkWords.3)
        guard from <= to, to - from < 65_536 else { return nil }
        return (from...to).map { number in
            let address = IPAddress(
                networkWords: (0, 0, UInt32(0xffff).bigEndian, number.bigEndian))
            return Endpoint(address, last.port)
        }
    }
}

// MARK: - Codable

// Here and not with the types: Embedded Swift, of which the C library is made, has no Codable.

extension Connectx.IPAddress: Codable {
    /// From its text.
    public init(from decoder: any Decoder) throws { self = try decodeText(decoder) }

    /// As its text, `description`.
    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }
}

extension Connectx.Endpoint: Codable {
    /// From its text.
    public init(from decoder: any Decoder) throws { self = try decodeText(decoder) }

    /// As its text, `description`.
    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }
}

extension Connectx.FourTuple: Codable {
    /// From its text.
    public init(from decoder: any Decoder) throws { self = try decodeText(decoder) }

    /// As its text, `description`.
    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }
}

private func decodeText<Value: LosslessStringConvertible>(_ decoder: any Decoder) throws -> Value {
    let text = try String(from: decoder)
    guard let value = Value(text) else {
        throw DecodingError.dataCorrupted(
            .init(
                codingPath: decoder.codingPath,
                debugDescription: "\"\(text)\" is no \(Value.self), such as 192.0.2.1:53"))
    }
    return value
}
