// SPDX-License-Identifier: Apache-2.0
// Cgroups with ports of their own: that run out, that others may take, that two of them have, that
// not every program may have.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSockets

extension Evidence {
    func ownPortsFindings(_ facts: GuardFacts) -> [Finding] {
        facts.limited.flatMap { limited -> [Finding] in
            guard let ports = limited.ports else { return [] }
            let filling = survey.pressures(in: ports, since: earlier).flatMap {
                [ownPortsFinding(limited, ports, $0), timeWaitFinding($0)].compactMap(\.self)
            }
            let privileged = [privilegedFinding(limited, ports)].compactMap(\.self)
            return filling + soleOwnPortFindings(limited, ports)
                + unreservedFindings(limited, ports) + privileged
        } + overlapFindings(facts)
    }

    private func ownPortsFinding(
        _ limited: GuardFacts.Limited, _ ports: ClosedRange<UInt16>, _ pressure: DestinationPressure
    ) -> Finding? {
        let filling = pressure.filling
        guard let severity = filling.severity else { return nil }
        let subject =
            "\(pressure.name) ports of \(printable(limited.path)) (\(text(ports))) from \(pressure.source) to \(pressure.remote)"
        return Finding(
            severity, .ownPortsFilling,
            filling.isFull
                ? "\(subject) have run out: connect() gives \(limited.errno)"
                : "\(subject) are running out",
            in: pressure.namespace.namespace,
            protocolName: pressure.transport == .tcp ? "tcp" : "udp",
            local: pressure.source, remote: pressure.remote.description,
            numbers: [
                "used": filling.used, "possible": filling.possible,
                "time_wait": pressure.destination.timeWait, "locked": pressure.destination.locked,
                "first": Int(ports.lowerBound), "last": Int(ports.upperBound),
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull,
            notes: [usageNote(filling, pressure.destination)],
            processes: processes(of: pressure.destination.inodes),
            remedies: [
                morePorts(limited),
                .init(
                    "Or use more destinations (addresses or ports of the service), or a second local address: each pair has all of the ports."
                ),
            ])
    }

    /// Of UDP sockets that share none each has a port to itself, whatever its destination.
    private func soleOwnPortFindings(
        _ limited: GuardFacts.Limited, _ ports: ClosedRange<UInt16>
    ) -> [Finding] {
        if limited.sharesPorts { return [] }
        return survey.fullestSources(in: ports, since: earlier).compactMap { pressure in
            let filling = pressure.filling
            guard let severity = filling.severity else { return nil }
            let name = address(pressure.source.address)
            let subject = "UDP ports of \(printable(limited.path)) (\(text(ports))) at \(name)"
            return Finding(
                severity, .ownPortsFilling,
                filling.isFull
                    ? "\(subject) have run out: connect() gives \(limited.errno)"
                    : "\(subject) are running out for sockets that share none",
                in: pressure.namespace.namespace, protocolName: "udp", local: name,
                numbers: [
                    "used": filling.used, "possible": filling.possible,
                    "shared": pressure.source.sharedPorts,
                    "first": Int(ports.lowerBound), "last": Int(ports.upperBound),
                    "per_second": Int((filling.rate ?? 0).rounded()),
                ],
                usage: filling.usage, secondsUntilFull: filling.secondsUntilFull,
                notes: [usageNote(filling)],
                processes: processes(of: pressure.namespace.udp.inodes),
                remedies: [
                    .init(
                        "Let its sockets share them: then each port serves every destination once.",
                        "tupleguard attach --replace --ports \(text(ports)) --discover all \(shellWord(limited.path))"
                    ), morePorts(limited),
                ])
        }
    }

    private func morePorts(_ limited: GuardFacts.Limited) -> Finding.Remedy {
        .init(
            "Give it more ports that are nobody's; with the other options that `tupleguard status` shows.",
            "tupleguard attach --replace --ports LOW-HIGH \(shellWord(limited.path))")
    }

    /// The kernel gives others those that are in its own range and not reserved.
    private func unreservedFindings(
        _ limited: GuardFacts.Limited, _ ports: ClosedRange<UInt16>
    ) -> [Finding] {
        survey.namespaces.filter { namespace in
            let own = namespace.confined(to: ports)
            let isUsed = own.map { !$0.tcp.sources.isEmpty || !$0.udp.sources.isEmpty } ?? false
            return (isUsed || namespace.namespace.isOwn) && !namespace.settings.reserves(ports)
        }.map { namespace in
            let list = namespace.settings.reservedList
            return Finding(
                .info, .ownPortsUnreserved,
                "the kernel gives ports of \(printable(limited.path)) (\(text(ports))) to other programs too",
                in: namespace.namespace,
                numbers: ["first": Int(ports.lowerBound), "last": Int(ports.upperBound)],
                notes: [
                    "ip_local_port_range is \(text(namespace.settings.range)), and not all of them are reserved: what others take there is missing here"
                ],
                remedies: [
                    .init(
                        "Reserve them: the kernel then gives them to nobody, and the guard to this cgroup.",
                        "\(namespace.namespace.commandPrefix)sysctl -w net.ipv4.ip_local_reserved_ports=\"\(list.isEmpty ? "" : list + ",")\(text(ports))\""
                    )
                ])
        }
    }

    private func privilegedFinding(
        _ limited: GuardFacts.Limited, _ ports: ClosedRange<UInt16>
    ) -> Finding? {
        guard let remark = limited.portRemark else { return nil }
        return Finding(
            .info, .ownPortsPrivileged,
            "not every program may have the ports of \(printable(limited.path)) (\(text(ports)))",
            numbers: ["first": Int(ports.lowerBound), "last": Int(ports.upperBound)],
            notes: [remark],
            remedies: [
                morePorts(limited),
                .init(
                    "Or give its programs CAP_NET_BIND_SERVICE; or let every program of the network namespace have such ports.",
                    "sysctl -w net.ipv4.ip_unprivileged_port_start=\(ports.lowerBound)"),
            ])
    }

    private func overlapFindings(_ facts: GuardFacts) -> [Finding] {
        let own = facts.limited.compactMap { limited in limited.ports.map { (limited.path, $0) } }
        return own.indices.flatMap { first in
            own[(first + 1)...].compactMap { other -> Finding? in
                let (path, ports) = own[first]
                guard ports.overlaps(other.1) else { return nil }
                let both = ports.clamped(to: other.1)
                return Finding(
                    .warning, .ownPortsOverlap,
                    "\(printable(path)) and \(printable(other.0)) have ports in common: \(text(both))",
                    numbers: ["first": Int(both.lowerBound), "last": Int(both.upperBound)],
                    notes: [
                        "\(text(ports)) and \(text(other.1)): what one uses is missing to the other"
                    ],
                    remedies: [
                        .init(
                            "Give one of them others; with the other options that `tupleguard status` shows.",
                            "tupleguard attach --replace --ports LOW-HIGH \(shellWord(other.0))")
                    ])
            }
        }
    }

    private func text(_ ports: ClosedRange<UInt16>) -> String {
        "\(ports.lowerBound)-\(ports.upperBound)"
    }
}
