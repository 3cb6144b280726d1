// SPDX-License-Identifier: Apache-2.0
// What `exec --defer-bind` takes and tells.

import ArgumentParser
import TupleguardDeferral
import TupleguardLinux
import TupleguardSockets

/// The value of --defer-bind.
enum DeferredTransports: String {
    case tcp, udp, all

    var transports: Set<Transport> {
        switch self {
        case .tcp: [.tcp]
        case .udp: [.udp]
        case .all: [.tcp, .udp]
        }
    }
}

extension Deferral.Answer: ExpressibleByArgument {}

extension Deferral.Counts {
    /// For a reader.
    var lines: [String] {
        let sockets = deferred.values.reduce(0, +)
        var line = "tupleguard: port left open until connect() for \(amount(sockets, "socket"))"
        if askedAndGiven > 0 {
            line += ", of which \(grouped(askedAndGiven)) got one when their program asked for it"
        }
        var lines = [line]
        if askedAndToldZero > 0 {
            lines.append(
                "tupleguard: \(amount(askedAndToldZero, "time")) a program asked for its port before "
                    + "it connected, and was told 0 (--getsockname port gives it one)")
        }
        for (error, count) in unreachable.sorted(by: { $0.key.number < $1.key.number }) {
            lines.append(
                "tupleguard: could not look at \(amount(count, "call")), which went on as always: "
                    + "\(error)")
        }
        return lines
    }
}

extension Deferral.Counts: Encodable {
    private enum Key: String, CodingKey {
        case tcp, udp, askedAndGiven, askedAndToldZero, unreachable
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(deferred[.tcp] ?? 0, forKey: .tcp)
        try container.encode(deferred[.udp] ?? 0, forKey: .udp)
        try container.encode(askedAndGiven, forKey: .askedAndGiven)
        try container.encode(askedAndToldZero, forKey: .askedAndToldZero)
        let byName = unreachable.map { ($0.key.name, $0.value) }
        try container.encode(Dictionary(uniqueKeysWithValues: byName), forKey: .unreachable)
    }
}
