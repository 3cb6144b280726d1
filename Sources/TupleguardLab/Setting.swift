// SPDX-License-Identifier: Apache-2.0
// The small world that every row is measured in.
import TupleguardSockets

/// Ports and destinations of a network namespace.
package struct Setting: Encodable, Sendable {
    /// net.ipv4.ip_local_port_range
    let ports: ClosedRange<UInt16>
    /// The source address, where one is named.
    let address: IPAddress
    let destinations: [Endpoint]

    static let standard = Setting(ports: 40_000...40_019, destinationPorts: 7001...7005)

    init(ports: ClosedRange<UInt16>, destinationPorts: ClosedRange<UInt16>) {
        self.ports = ports
        let address = IPAddress(v4: 127, 0, 0, 1)
        self.address = address
        destinations = destinationPorts.map { Endpoint(address, $0) }
    }

    private enum Key: String, CodingKey {
        case ports
        case destinations
    }

    /// How many there are of each.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(portCount, forKey: .ports)
        try container.encode(destinationCount, forKey: .destinations)
    }

    package var portCount: Int { ports.count }
    package var destinationCount: Int { destinations.count }
}
