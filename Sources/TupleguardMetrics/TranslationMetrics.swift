// SPDX-License-Identifier: Apache-2.0
// Ports that source NAT has given out to each destination as metrics, and the table of tracked
// connections.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

extension HostSample {
    /// Of all network namespaces; where several have the same names the fullest stands for them.
    var translationFamilies: [MetricFamily] {
        var used = MetricFamily(
            "tupleguard_snat_ports_used", .gauge,
            "Ports that source NAT uses from an address to a destination, of the busiest.")
        var available = MetricFamily(
            "tupleguard_snat_ports_available", .gauge,
            "Ports left to source NAT, of those from 1024 on, from an address to a destination.")
        for pressure in busiestTranslations {
            let labels: MetricFamily.Labels = [
                ("protocol", pressure.destination.transport.name),
                ("source", pressure.source.description),
                ("destination", pressure.remote.description),
            ]
            used.add(labels, pressure.filling.used)
            available.add(labels, pressure.filling.left)
        }
        let tables = survey.namespaces.compactMap(\.translation)
        let fullest = tables.max { $0.tracked < $1.tracked }
        return [
            used, available,
            MetricFamily(
                "tupleguard_conntrack_entries", .gauge,
                "Connections that are tracked, in the network namespace with most of them.",
                fullest?.tracked ?? 0),
            MetricFamily(
                "tupleguard_conntrack_limit", .gauge,
                "Connections that may be tracked in each network namespace; 0: any number.",
                fullest?.limit ?? 0),
        ]
    }

    private var busiestTranslations: [TranslationPressure] {
        var fullest: [String: TranslationPressure] = [:]
        for namespace in survey.namespaces {
            for pressure in survey.translationPressures(
                namespace, ports: TranslationSurvey.defaultPorts, since: nil)
            {
                let known = fullest[pressure.title]
                if pressure.filling.used > known?.filling.used ?? -1 {
                    fullest[pressure.title] = pressure
                }
            }
        }
        return Array(
            fullest.values.sorted { ($0.filling.used, $1.title) > ($1.filling.used, $0.title) }
                .prefix(Self.destinationsShown))
    }
}
