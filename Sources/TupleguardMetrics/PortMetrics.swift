// SPDX-License-Identifier: Apache-2.0
// Ports in use to each destination as metrics: how near connect() is to "Cannot assign requested
// address".

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

extension HostSample {
    /// Destinations of each protocol that are told by name; of the others only the largest figure.
    package static let destinationsShown = 10
    private static let sourcesShown = 10
    static let podsShown = 100

    /// A destination as a label names it, in whatever network namespace.
    private struct Name: Hashable {
        let transport: Transport
        let source: String
        let destination: String
        /// Whose network namespace it is.
        let pod: Pod?

        var labels: MetricFamily.Labels {
            [("protocol", transport.name), ("source", source), ("destination", destination)]
                + (pod?.labels() ?? [])
        }
    }

    func portFamilies(hasPodLabels: Bool) -> [MetricFamily] {
        destinationFamilies(hasPodLabels: hasPodLabels) + [
            sourceFamily,
            MetricFamily(
                "tupleguard_local_ports", .gauge,
                "Ports that the kernel chooses from, in the namespace of whoever counts.",
                survey.namespaces.first { $0.namespace.isOwn }?.settings.possible ?? 0),
        ]
    }

    private func destinationFamilies(hasPodLabels: Bool) -> [MetricFamily] {
        var used = MetricFamily(
            "tupleguard_ports_used", .gauge,
            "Local ports in use from a source address to a destination, of the busiest.")
        var available = MetricFamily(
            "tupleguard_ports_available", .gauge,
            "Local ports left for more connections from a source address to a destination.")
        var timeWait = MetricFamily(
            "tupleguard_ports_time_wait", .gauge,
            "Local ports to a destination that are in TIME_WAIT.")
        var others = MetricFamily(
            "tupleguard_ports_used_others_max", .gauge,
            "The most local ports in use to any destination that is not told by name.")
        for transport in [Transport.tcp, .udp] {
            let (named, rest) = busiest(transport, hasPodLabels: hasPodLabels)
            for (name, pressure) in named {
                used.add(name.labels, pressure.filling.used)
                available.add(name.labels, pressure.filling.left)
                if transport == .tcp {
                    timeWait.add(name.labels, pressure.destination.timeWait)
                }
            }
            others.add([("protocol", transport.name)], rest)
        }
        return [used, available, timeWait, others]
    }

    /// The destinations with most ports in use, and the most that any other has.
    ///
    /// Where several go by one name, in namespaces of their own, the fullest stands for them: it is
    /// the one that fails first.
    private func busiest(
        _ transport: Transport, hasPodLabels: Bool
    ) -> (named: [(Name, DestinationPressure)], rest: Int) {
        var fullest: [Name: DestinationPressure] = [:]
        var rest = 0
        for namespace in survey.namespaces {
            rest = max(rest, namespace[transport].mostUsedOfOthers)
            // Containers of one pod have one network namespace, so it is the pod that is named.
            var pod = hasPodLabels ? namespace.namespace.pod : nil
            pod?.container = nil
            for pressure in survey.pressures(namespace, since: nil)
            where pressure.transport == transport {
                let name = Name(
                    transport: transport, source: pressure.source,
                    destination: pressure.stableDestination, pod: pod)
                if let known = fullest[name], known.filling.usage >= pressure.filling.usage {
                    continue
                }
                fullest[name] = pressure
            }
        }
        let sorted = fullest.sorted {
            ($0.value.filling.used, $1.key.destination) > (
                $1.value.filling.used, $0.key.destination
            )
        }
        let unnamed = sorted.dropFirst(Self.destinationsShown).first?.value.filling.used ?? 0
        return (
            sorted.prefix(Self.destinationsShown).map { ($0.key, $0.value) }, max(rest, unnamed)
        )
    }

    /// For sockets that share no port it is the address that runs out, whatever the destination.
    private var sourceFamily: MetricFamily {
        var family = MetricFamily(
            "tupleguard_source_ports_used", .gauge,
            "Different local ports in use at a source address, whatever the destination.")
        for transport in [Transport.tcp, .udp] {
            var ports: [IPAddress: Int] = [:]
            for namespace in survey.namespaces {
                for source in namespace[transport].sources {
                    ports[source.address] = max(ports[source.address] ?? 0, source.ports)
                }
            }
            let sorted = ports.map { (count: $0.value, name: address($0.key)) }
                .sorted { ($0.count, $1.name) > ($1.count, $0.name) }
            for (count, name) in sorted.prefix(Self.sourcesShown) {
                family.add([("protocol", transport.name), ("source", name)], count)
            }
        }
        return family
    }
}

extension DestinationPressure {
    /// The destination, without its port where that is an ephemeral one: such ports come and go,
    /// and each would be a time series of its own.
    var stableDestination: String {
        guard namespace.settings.range.contains(remote.port) else { return remote.description }
        let address = remote.address.description
        return remote.address.isIPv4 ? "\(address):ephemeral" : "[\(address)]:ephemeral"
    }
}
