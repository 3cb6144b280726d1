// SPDX-License-Identifier: Apache-2.0
// Ports to one destination that run out.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

extension Evidence {
    func destinationFinding(_ pressure: DestinationPressure) -> Finding? {
        guard let severity = pressure.filling.severity else { return nil }
        let filling = pressure.filling
        let namespace = pressure.namespace
        let errno = pressure.transport == .tcp ? "EADDRNOTAVAIL" : "EAGAIN"
        let what =
            filling.isFull
            ? "\(pressure.name) ports from \(pressure.source) to \(pressure.remote) have run out: connect() gives \(errno)"
            : "\(pressure.name) ports from \(pressure.source) to \(pressure.remote) are running out"
        return Finding(
            severity, .destinationFilling, what, in: namespace.namespace,
            protocolName: pressure.name.lowercased(), local: pressure.source,
            remote: pressure.remote.description,
            numbers: [
                "used": filling.used, "possible": filling.possible,
                "time_wait": pressure.destination.timeWait, "locked": pressure.destination.locked,
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull,
            notes: [usageNote(filling, pressure.destination)]
                + lockedNotes(pressure.destination.locked),
            processes: processes(of: pressure.destination.inodes),
            remedies: destinationRemedies(pressure))
    }

    private func lockedNotes(_ locked: Int) -> [String] {
        locked == 0
            ? []
            : [
                "\(amount(locked, "more port")) cannot be used here: other sockets have them from bind()"
            ]
    }

    private func destinationRemedies(_ pressure: DestinationPressure) -> [Finding.Remedy] {
        (pressure.transport == .tcp ? tcpRemedies(pressure.remote) : udpRemedies(pressure))
            + rangeRemedies(pressure.namespace)
    }

    private func tcpRemedies(_ remote: Endpoint) -> [Finding.Remedy] {
        var remedies: [Finding.Remedy] = []
        if remote.address.isLoopback {
            remedies.append(
                .init("Reach the local service over a Unix socket: it needs no ports."))
            if remote.address.isIPv4 {
                remedies.append(
                    .init(
                        "Or spread over 127.0.0.0/8: each address brings as many ports again.",
                        "connect to 127.0.0.2:\(remote.port), 127.0.0.3:\(remote.port), ..."))
            }
        } else {
            remedies.append(
                .init(
                    "Use more destinations (addresses or ports of the service), or bind to a second local address: each pair has ports of its own.",
                    Self.bindWithoutPort))
        }
        return remedies + [
            .init("Keep connections open and use them again (keep-alive, a pool).")
        ]
    }

    /// More destinations are of no use to sockets whose port nobody shares.
    private func udpRemedies(_ pressure: DestinationPressure) -> [Finding.Remedy] {
        let remote = pressure.remote
        let busiest = owners.count(pressure.destination.inodes).first?.pid
        return [
            .init(
                "Bind to a second local address: each has ports of its own.",
                remote.address.isLoopback && remote.address.isIPv4
                    ? "bind to 127.0.0.2, 127.0.0.3, ..., each with port 0" : nil),
            .init(
                "Or use more destinations (addresses or ports of the service), and share ports among them: connect with connectx(), or under a guard that chooses ports.",
                "tupleguard attach --discover all \(busiest.map(cgroupName(ofProcess:)) ?? "CGROUP")"
            ),
        ]
    }
}
