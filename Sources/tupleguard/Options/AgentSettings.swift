// SPDX-License-Identifier: Apache-2.0
// What the agent can be told, by options and by its configuration file alike.

import ArgumentParser
import TupleguardAgent
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux

/// The options of `run` that the configuration file knows as well, by the same names.
struct AgentSettings: ParsableArguments {
    @Option(
        name: .customLong("cgroup"),
        help: ArgumentHelp("A cgroup to guard; may be given several times.", valueName: "cgroup"))
    var cgroups: [String] = []

    @Option(
        help: ArgumentHelp(
            """
            How often to drop claims without a socket and to claim for sockets that have none. \
            (default: \(Self.defaultSweepInterval))
            """, valueName: "seconds"))
    var sweepInterval: Int?

    @Option(
        help: """
            What to do where two sockets are found to share a tuple, one of them past the guard, \
            which is looked for with each sweep. report: log it. destroy: also end the socket that \
            came later (its program gets ECONNABORTED), if it is the one that receives. \
            (default: report)
            """)
    var onShadow: OnShadow?

    @Option(
        help: """
            What to do where somebody else takes the guard off one of the cgroups while the agent \
            runs. attach: say so and attach it again. fail: end with an error. (default: attach)
            """)
    var onDetach: OnDetach?

    @Flag(
        inversion: .prefixedNo,
        help: """
            Detach from these cgroups when the agent is told to stop. \
            (default: --no-detach-on-exit)
            """)
    var detachOnExit: Bool?

    @Option(
        help: ArgumentHelp(
            """
            Serve metrics for Prometheus at GET /metrics of this address and port, such as \
            127.0.0.1:9469, or on a Unix socket at this path; may be given several times.
            """, valueName: "address"))
    var metrics: [MetricsAddress] = []

    @Flag(
        inversion: .prefixedNo,
        help: """
            Name pods in metrics: each of them with connections to a busy destination is a time \
            series of its own. (default: --pod-labels)
            """)
    var podLabels: Bool?

    @Option(
        help: ArgumentHelp(
            """
            Where kubelet keeps the logs of pods, whose folders tell their names; "none": pods go \
            by their UIDs. (default: \(Self.defaultPodLogs))
            """, valueName: "folder"))
    var podLogs: String?

    @Option(
        help: ArgumentHelp(
            "The cgroup that kubelet keeps those of pods in, its --cgroup-root. (default: /)",
            valueName: "cgroup"))
    var podCgroup: String?

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions

    static let defaultSweepInterval = 60
    private static let defaultPodLogs = PodNames.Places().logs ?? "none"

    func validate() throws {
        if cgroups.contains("") { throw ValidationError("--cgroup: give the name of a cgroup") }
        if policyOptions.ports?.range != nil && Set(cgroups).count > 1 {
            throw ValidationError(
                "--ports is for one cgroup, and \(cgroups.count) are named: attach the others with ports of their own (`tupleguard attach --ports`), and the agent looks after them too"
            )
        }
        if let sweepInterval, !(1...86_400).contains(sweepInterval) {
            throw ValidationError("--sweep-interval \(sweepInterval): choose between 1 and 86400")
        }
        if let podLogs, podLogs != "none", !podLogs.hasPrefix("/") {
            throw ValidationError("--pod-logs \(podLogs): give an absolute path, or none")
        }
        if let podCgroup, !podCgroup.hasPrefix("/") {
            throw ValidationError("--pod-cgroup \(podCgroup): give it as a path from /")
        }
    }

    /// These, and from `others` what they leave open; cgroups come all from one of both, and so do
    /// the addresses of metrics.
    func completed(by others: Self) throws -> Self {
        var all = self
        all.cgroups = cgroups.isEmpty ? others.cgroups : cgroups
        all.sweepInterval = sweepInterval ?? others.sweepInterval
        all.onShadow = onShadow ?? others.onShadow
        all.onDetach = onDetach ?? others.onDetach
        all.detachOnExit = detachOnExit ?? others.detachOnExit
        all.metrics = metrics.isEmpty ? others.metrics : metrics
        all.podLabels = podLabels ?? others.podLabels
        all.podLogs = podLogs ?? others.podLogs
        all.podCgroup = podCgroup ?? others.podCgroup
        all.policyOptions = try policyOptions.completed(by: others.policyOptions)
        try all.validate()
        return all
    }

    /// Where pods and their names are.
    var podPlaces: PodNames.Places {
        var places = PodNames.Places.ofEnvironment
        if let podLogs { places.logs = podLogs == "none" ? nil : podLogs }
        if let podCgroup { places.cgroup = podCgroup }
        return places
    }

    /// What the agent is to guard.
    ///
    /// - Throws: `ValidationError` when no cgroup is named.
    func guardConfiguration(state: GuardState) throws -> GuardConfiguration {
        if cgroups.isEmpty {
            throw ValidationError(
                "give at least one --cgroup, or name one in the configuration file")
        }
        return GuardConfiguration(
            cgroups: cgroups, policy: policyOptions.policy, tableSize: policyOptions.tableSize,
            state: state, detachOnExit: detachOnExit ?? false,
            sweepInterval: .seconds(sweepInterval ?? Self.defaultSweepInterval),
            onShadow: onShadow ?? .report, onDetach: onDetach ?? .attach, metrics: metrics)
    }
}

extension PodNames.Places {
    /// For every command: what TUPLEGUARD_POD_LOGS and TUPLEGUARD_POD_CGROUP say.
    static var ofEnvironment: Self {
        var places = Self()
        if let logs = environment("TUPLEGUARD_POD_LOGS") {
            places.logs = logs == "none" ? nil : logs
        }
        if let cgroup = environment("TUPLEGUARD_POD_CGROUP") { places.cgroup = cgroup }
        return places
    }
}

extension OnShadow: ExpressibleByArgument {}
extension OnDetach: ExpressibleByArgument {}

extension MetricsAddress: ExpressibleByArgument {
    init?(argument: String) { self.init(argument) }
}
