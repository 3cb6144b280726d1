// SPDX-License-Identifier: Apache-2.0
// Sources and destinations as people write them.

import ConnectxCore
import Glibc
import TupleguardSockets

extension Destination {
    /// Parses "192.0.2.1:53", "[2001:db8::1]:53" or, with an interface by name or index,
    /// "[fe80::1%eth0]:53"; nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard let percent = text.firstIndex(of: "%") else {
            guard let endpoint = Endpoint(text) else { return nil }
            self.init(endpoint)
            return
        }
        guard let close = text.lastIndex(of: "]"), percent < close,
            let endpoint = Endpoint(String(text[..<percent]) + text[close...]),
            let scope = interfaceIndex(String(text[text.index(after: percent)..<close]))
        else { return nil }
        self.init(endpoint, scope: scope)
    }
}

extension Source {
    /// Parses an address ("192.0.2.1", "2001:db8::1") or an address and a port
    /// ("192.0.2.1:4000", "[2001:db8::1]:4000", "*:4000"); nil for anything else.
    public init?(_ text: some StringProtocol) {
        if let address = IPAddress(text) {
            self.init(Endpoint(address, 0))
        } else if text.hasPrefix("*:") {
            guard let endpoint = Endpoint("0.0.0.0" + text.dropFirst()) else { return nil }
            self.init(endpoint)
        } else {
            guard let endpoint = Endpoint(text) else { return nil }
            self.init(endpoint)
        }
    }
}

extension Destinations {
    /// Parses one destination, several with commas between them, or a range of IPv4 addresses:
    /// "127.0.0.1-127.0.0.254:80". Nil for anything else, and for more than 65,536 of them.
    public convenience init?(_ text: some StringProtocol) {
        var all: [Destination] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let some = Self.range(String(part)), all.count + some.count <= 65_536 else {
                return nil
            }
            all += some
        }
        self.init(all)
    }

    private static func range(_ text: String) -> [Destination]? {
        if let destination = Destination(text) { return [destination] }
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
            return Destination(Endpoint(address, last.port))
        }
    }
}

/// The index of an interface, by name or by number; nil when there is none of that name.
public func interfaceIndex(_ name: String) -> UInt32? {
    let index = if_nametoindex(name)
    if index != 0 { return index }
    return UInt32(name).flatMap { $0 == 0 ? nil : $0 }
}
