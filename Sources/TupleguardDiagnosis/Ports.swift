// SPDX-License-Identifier: Apache-2.0
// Ports that run out: to one destination, or at one address altogether; and TIME_WAIT.

package import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSocketDiag
package import TupleguardSockets

/// How full the ports between one address and one destination are.
package struct DestinationPressure {
    let namespace: NamespaceSurvey
    let transport: Transport
    package let destination: TransportSurvey.Destination
    package let filling: Filling

    init(
        _ destination: TransportSurvey.Destination, _ transport: Transport,
        _ namespace: NamespaceSurvey, before: NamespaceSurvey?, seconds: Double
    ) {
        self.namespace = namespace
        self.transport = transport
        self.destination = destination
        let earlier = before.map { transport == .tcp ? $0.tcp : $0.udp }
        func used(_ destination: TransportSurvey.Destination) -> Int {
            // A connection in TIME_WAIT whose port may be taken again is in nobody's way.
            namespace.settings.reusesTimeWait(to: destination.pair.remote.address)
                ? destination.used - destination.timeWait + destination.freshTimeWait
                : destination.used
        }
        let now = used(destination)
        let same = earlier?.destinations.first { $0.pair == destination.pair }
        let before = earlier.map { earlier in
            // One that was not among the busiest before had no more than the least of them.
            same.map(used)
                ?? min(now, earlier.hasMoreDestinations ? earlier.destinations.last!.used : 0)
        }
        filling = Filling(
            used: now,
            possible: max(0, namespace.settings.possible - destination.locked),
            before: before, seconds: seconds,
            ended: Set(same?.inodes ?? []).subtracting(destination.inodes).count)
    }

    package var remote: Endpoint { destination.pair.remote }
    /// The local address; "any address" where there is none.
    package var source: String { address(destination.pair.source) }
    /// "TCP" or "UDP".
    package var name: String { transport == .tcp ? "TCP" : "UDP" }
    var timeWaitShare: Double {
        destination.used > 0 ? Double(destination.timeWait) / Double(destination.used) : 0
    }
}

/// How full one address is for sockets that share no port.
struct SourcePressure {
    let source: TransportSurvey.Source
    let filling: Filling

    /// - Parameter ended: sockets of the earlier look that were gone at the later one.
    init(
        _ source: TransportSurvey.Source, _ namespace: NamespaceSurvey, before: TransportSurvey?,
        seconds: Double, ended: Int
    ) {
        self.source = source
        let earlier = before.map { before in
            before.sources.first { $0.address == source.address }?.ports ?? 0
        }
        filling = Filling(
            used: source.ports, possible: namespace.settings.possible, before: earlier,
            seconds: seconds, ended: ended)
    }
}

/// "any address" where it is not known.
package func address(_ address: IPAddress) -> String {
    address.isUnspecified ? "any address" : address.description
}

extension Evidence {
    /// The destinations of one namespace, busiest first.
    package func pressures(_ namespace: NamespaceSurvey) -> [DestinationPressure] {
        let before = before(namespace)
        func all(_ survey: TransportSurvey, _ transport: Transport)
            -> [DestinationPressure]
        {
            survey.destinations.map {
                DestinationPressure($0, transport, namespace, before: before, seconds: seconds)
            }
        }
        return (all(namespace.tcp, .tcp) + all(namespace.udp, .udp)).sorted {
            $0.filling.used > $1.filling.used
        }
    }

    func portFindings(_ namespace: NamespaceSurvey) -> [Finding] {
        var findings: [Finding] = []
        for pressure in pressures(namespace) {
            if let severity = pressure.filling.severity {
                findings.append(destinationFinding(pressure, severity))
            }
            if let finding = timeWaitFinding(pressure) { findings.append(finding) }
        }
        return findings + udpSourceFindings(namespace)
    }

    private func destinationFinding(_ pressure: DestinationPressure, _ severity: Severity)
        -> Finding
    {
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

    private func usageNote(_ filling: Filling, _ destination: TransportSurvey.Destination? = nil)
        -> String
    {
        var note = "\(grouped(filling.used)) of \(grouped(filling.possible)) ports"
        if let destination, destination.timeWait > 0 {
            note += ", \(grouped(destination.timeWait)) in TIME_WAIT"
            let fresh = destination.freshTimeWait
            if fresh > 0 { note += " (\(grouped(fresh)) for less than a second)" }
        }
        if let rate = rateText(filling.rate) { note += ", \(rate)" }
        return note
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

    func rangeRemedies(_ namespace: NamespaceSurvey) -> [Finding.Remedy] {
        let roomy = 60_000
        guard namespace.settings.possible < roomy else { return [] }
        return [
            .init(
                "Widen the range of ports. List in net.ipv4.ip_local_reserved_ports those that servers in it listen on.",
                "\(namespace.namespace.commandPrefix)sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""
            )
        ]
    }

    // MARK: - TIME_WAIT

    static let timeWaitShare = 0.5
    static let timeWaitUsage = 0.5

    /// Most of many ports are held by connections that are over.
    private func timeWaitFinding(_ pressure: DestinationPressure) -> Finding? {
        let settings = pressure.namespace.settings
        let held = pressure.filling
        guard pressure.transport == .tcp, pressure.timeWaitShare >= Self.timeWaitShare,
            held.usage >= Self.timeWaitUsage,
            !settings.reusesTimeWait(to: pressure.remote.address)
        else { return nil }
        let prefix = pressure.namespace.namespace.commandPrefix
        var remedies = [
            Finding.Remedy(
                "Keep connections open and use them again (keep-alive, a pool): then nothing is closed."
            )
        ]
        if !settings.hasTimestamps {
            remedies.append(
                .init(
                    "Turn timestamps on: without them no port in TIME_WAIT is used again.",
                    "\(prefix)sysctl -w net.ipv4.tcp_timestamps=1"))
        }
        if settings.timeWaitReuse != 1 {
            remedies.append(
                .init(
                    "Let connect() take ports that have been in TIME_WAIT for a second. This is safe: timestamps tell old segments from new.",
                    "\(prefix)sysctl -w net.ipv4.tcp_tw_reuse=1"))
        }
        return Finding(
            held.usage >= Filling.nearlyFull ? .critical : .warning, .timeWait,
            "\(percent(pressure.timeWaitShare)) of the connections from \(pressure.source) to \(pressure.remote) are in TIME_WAIT",
            in: pressure.namespace.namespace, protocolName: "tcp", local: pressure.source,
            remote: pressure.remote.description,
            numbers: [
                "time_wait": pressure.destination.timeWait, "used": pressure.destination.used,
                "possible": held.possible, "tcp_tw_reuse": settings.timeWaitReuse ?? -1,
            ],
            usage: held.usage,
            notes: [
                "\(grouped(pressure.destination.timeWait)) of \(grouped(pressure.destination.used)) connections are over, and hold their port for a minute (tcp_tw_reuse is \(settings.timeWaitReuse ?? 0))"
            ],
            remedies: remedies)
    }

    // MARK: - UDP

    /// UDP sockets that do not share hold their port whatever the destination: the address is what fills.
    private func udpSourceFindings(_ namespace: NamespaceSurvey) -> [Finding] {
        let before = before(namespace)
        let ended = Set(before?.udp.inodes ?? []).subtracting(namespace.udp.inodes).count
        // Wildcards count at every address: the fullest says it for all.
        guard
            let fullest = namespace.udp.sources.map({
                SourcePressure(
                    $0, namespace, before: before?.udp, seconds: seconds, ended: ended)
            }).max(by: { $0.filling.used < $1.filling.used }),
            let severity = fullest.filling.severity
        else { return [] }
        return [udpSourceFinding(fullest, namespace, severity)]
            + udpProgramFindings(fullest, namespace)
    }

    private func udpSourceFinding(
        _ pressure: SourcePressure, _ namespace: NamespaceSurvey, _ severity: Severity
    ) -> Finding {
        let filling = pressure.filling
        let name = address(pressure.source.address)
        let what =
            filling.isFull
            ? "UDP ports at \(name) have run out: sockets that share none get EAGAIN or EADDRINUSE"
            : "UDP ports at \(name) are running out for sockets that share none"
        var note = usageNote(filling)
        if pressure.source.sharedPorts > 0 {
            note += ", \(grouped(pressure.source.sharedPorts)) shared"
        }
        return Finding(
            severity, .sourceFilling, what, in: namespace.namespace, protocolName: "udp",
            local: name,
            numbers: [
                "used": filling.used, "possible": filling.possible,
                "shared": pressure.source.sharedPorts, "sockets": pressure.source.sockets,
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull, notes: [note],
            processes: processes(of: namespace.udp.inodes),
            remedies: [
                .init(
                    "Share ports among destinations, safely: connect with connectx(), of libconnectx or the Swift module Connectx.",
                    "connectx(fd, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL);")
            ] + rangeRemedies(namespace))
    }

    /// Programs with a large part of the ports, one diagnosis each.
    private func udpProgramFindings(_ pressure: SourcePressure, _ namespace: NamespaceSurvey)
        -> [Finding]
    {
        let large = max(1, pressure.filling.used / 4)
        return owners.count(namespace.udp.inodes).prefix(3).compactMap { pid, sockets in
            guard sockets >= large, let process = ProcessIdentity(pid: pid) else { return nil }
            return Finding(
                .info, .udpProgramNearLimit,
                "\(process.command) has \(amount(sockets, "UDP socket")) that share no port, of the \(grouped(pressure.filling.possible)) that fit",
                in: namespace.namespace, protocolName: "udp",
                numbers: ["sockets": sockets, "possible": pressure.filling.possible],
                processes: [.init(process, amount(sockets, "socket"))],
                remedies: [
                    .init(
                        "Let the guard choose its ports: then each serves every destination once, and no two of its sockets get one 4-tuple. The program stays as it is.",
                        "tupleguard attach --discover all \(cgroupName(ofProcess: pid))")
                ])
        }
    }

    private func cgroupName(ofProcess pid: Int32) -> String {
        Proc.system.cgroup(of: pid).map(shellWord) ?? "CGROUP"
    }
}
