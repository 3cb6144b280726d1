// SPDX-License-Identifier: Apache-2.0
// The guard's and the agent's counters as metrics.

import TupleguardAgentClient
import TupleguardDiagnosis
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

extension HostSample {
    /// Everything there is to scrape, in a fixed order.
    ///
    /// - Parameters:
    ///   - version: of this program.
    ///   - hasPodLabels: whether pods are named.
    package func families(version: String, hasPodLabels: Bool = true) -> [MetricFamily] {
        guardFamilies(version: version) + agentFamilies
            + (hasPodLabels ? [podFamily] : [])
            + portFamilies(hasPodLabels: hasPodLabels) + translationFamilies + [
                MetricFamily(
                    "tupleguard_shadowed_sockets", .gauge,
                    "UDP sockets that receive nothing, because another one has their 4-tuple.",
                    survey.overshadowedCount),
                MetricFamily(
                    "tupleguard_unseen_network_namespaces", .gauge,
                    "Network namespaces that could not be looked into; their ports are missing here.",
                    survey.unseen.count),
                lookFamily,
            ]
    }

    private var lookFamily: MetricFamily {
        var family = MetricFamily(
            "tupleguard_look_duration_seconds", .gauge,
            "How long it took to look at the guard and at all sockets.")
        family.add([], .real(Double(nanoseconds) / 1e9))
        return family
    }

    // MARK: - The guard

    private func guardFamilies(version: String) -> [MetricFamily] {
        var build = MetricFamily(
            "tupleguard_build", .info, "This program: its version and that of its maps.")
        build.add([("version", version), ("abi", "\(GuardState.abi)")], 1)
        let cgroups = MetricFamily(
            "tupleguard_guarded_cgroups", .gauge, "Cgroups that the guard is attached to.",
            `guard`?.cgroups.count ?? 0)
        // What could not be seen is not 0.
        if unseenGuard != nil { return [build] }
        guard let `guard` else { return [build, cgroups] }
        return [build, cgroups] + Self.counterFamilies(`guard`) + limitFamilies(`guard`) + [
            MetricFamily(
                "tupleguard_claims", .gauge, "Claims in the table, one for each 4-tuple.",
                `guard`.claims),
            MetricFamily(
                "tupleguard_claims_capacity", .gauge,
                "Claims that the table has room for, at the least.",
                `guard`.tableSize),
        ]
    }

    /// Of the cgroups that may not have what they like: their ports, and their connections.
    private func limitFamilies(_ guard: Guard) -> [MetricFamily] {
        var connections = MetricFamily(
            "tupleguard_connections", .gauge,
            "Connections that a cgroup with --max-connections has open, TCP and UDP.")
        var limit = MetricFamily(
            "tupleguard_connections_limit", .gauge, "Connections that it may have open.")
        var ports = MetricFamily(
            "tupleguard_own_ports", .gauge, "Ports of its own that a cgroup has (--ports).")
        var used = MetricFamily(
            "tupleguard_own_ports_used", .gauge,
            "Those of them that a connection to the busiest destination cannot have.")
        for (counted, budget) in zip(`guard`.cgroups, `guard`.connections) {
            let cgroup = ("cgroup", counted.attachment.path ?? "(gone)")
            if let budget {
                connections.add([cgroup], budget.used)
                limit.add([cgroup], budget.limit)
            }
            guard let use = survey.ownPortsUse(counted.attachment.policy) else { continue }
            ports.add([cgroup], use.range.count)
            for transport in [Transport.tcp, .udp] {
                used.add([cgroup, ("protocol", transport.name)], use[transport].used)
            }
        }
        return [connections, limit, ports, used]
    }

    private static func counterFamilies(_ guard: Guard) -> [MetricFamily] {
        var refused = MetricFamily(
            "tupleguard_connects_refused", .counter, "Connects that the guard refused.")
        var claimed = MetricFamily(
            "tupleguard_connects_claimed", .counter,
            "Connects that claimed a 4-tuple, again or for the first time.")
        var observed = MetricFamily(
            "tupleguard_connects_observed", .counter,
            "Connects that would have been refused, let through because the mode is observe.")
        var unclaimed = MetricFamily(
            "tupleguard_connects_unclaimed", .counter,
            "Connects that were let through without a claim, by reason.")
        var discovered = MetricFamily(
            "tupleguard_ports_discovered", .counter,
            "Connects for which the guard chose the local port.")
        var after = MetricFamily(
            "tupleguard_programs_after_guard", .gauge,
            "Connect programs of others that may send sockets elsewhere unseen by the guard.")
        for (counted, programs) in zip(`guard`.cgroups, `guard`.programsAfter) {
            after.add([("cgroup", counted.attachment.path ?? "(gone)")], programs)
        }
        for (attachment, counters) in `guard`.cgroups {
            let cgroup = ("cgroup", attachment.path ?? "(gone)")
            for counter in Counter.allCases {
                if let reason = counter.refusalReason {
                    refused.add([("reason", reason), cgroup], .integer(counters[counter]))
                } else if let reason = counter.unclaimedReason {
                    unclaimed.add([("reason", reason), cgroup], .integer(counters[counter]))
                }
            }
            claimed.add([cgroup], .integer(counters.connectsClaimed))
            observed.add([cgroup], .integer(counters[.observed]))
            discovered.add([cgroup], .integer(counters[.discovered]))
        }
        return [refused, claimed, observed, unclaimed, discovered, after]
    }

    // MARK: - Pods

    private var podFamily: MetricFamily {
        var refused = MetricFamily(
            "tupleguard_pod_connects_refused", .counter,
            "Connects of a pod's container that were refused, as far as the agent heard of them.")
        for count in (agent?.pods ?? []).prefix(Self.podsShown) {
            refused.add(count.pod.labels(withContainer: true), .integer(count.refused))
        }
        return refused
    }

    // MARK: - The agent

    private var agentFamilies: [MetricFamily] {
        let running = MetricFamily(
            "tupleguard_agent_running", .gauge, "Whether an agent runs: 1 or 0.",
            agent == nil ? 0 : 1)
        var exhausted = MetricFamily(
            "tupleguard_exhausted_connects", .counter,
            "Connects for which no local port was left, as far as the guard or connectx saw them.")
        var dropped = MetricFamily(
            "tupleguard_agent_events_dropped", .counter,
            "Events that got lost on their way to the agent; counters stay exact.")
        let total = `guard`?.total
        if let agent {
            exhausted.add([("protocol", "tcp")], .integer(agent.totals.exhaustedTcp))
            exhausted.add(
                [("protocol", "udp")],
                .integer(agent.totals.exhausted &- agent.totals.exhaustedTcp))
            dropped.add([("from", "connectx")], .integer(agent.totals.limited))
        }
        if let total {
            exhausted.add([("protocol", "tcp")], .integer(total[.refusedExhaustedTCP]))
            exhausted.add([("protocol", "udp")], .integer(total[.refusedExhausted]))
            dropped.add([("from", "guard")], .integer(total[.eventsDropped]))
        }
        return [running, exhausted, dropped]
    }
}

extension Counter {
    /// "held" of `refused_held`; nil for what counts no refusals.
    var refusalReason: String? {
        kind == .refusal ? String(rawValue.dropFirst("refused_".count)) : nil
    }

    /// Why a connect was let through without a claim; nil for what counts something else.
    var unclaimedReason: String? {
        switch self {
        case .allowedTableFull: "table_full"
        case .unresolved, .exclusivePort, .undiscoverable, .exemptMulticast, .exemptBroadcast:
            rawValue
        default: nil
        }
    }
}

extension Pod {
    /// Names of labels that a scrape configuration does not use for the agent's own pod. One whose
    /// name is not known goes by its UID.
    func labels(withContainer: Bool = false) -> MetricFamily.Labels {
        [("pod_namespace", namespace ?? ""), ("pod_name", name ?? uid)]
            + (withContainer
                ? [("pod_container", container ?? String((containerId ?? "").prefix(12)))] : [])
    }
}
