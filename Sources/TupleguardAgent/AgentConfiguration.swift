// SPDX-License-Identifier: Apache-2.0
// What an agent is told to do.

package import TupleguardAgentClient
package import TupleguardKernel

package struct AgentConfiguration: Sendable {
    /// How the agent comes to know of conflicts.
    package enum Watch: Sendable {
        /// By a guard, which refuses them.
        ///
        /// - Parameter reread: reads the configuration anew, at SIGHUP; nil where it cannot change.
        case `guard`(GuardConfiguration, reread: (@Sendable () throws -> GuardConfiguration)? = nil)
        /// By looking at all sockets, again and again; so long from the beginning of one scan to
        /// that of the next. Needs no BPF. Metrics are as in `GuardConfiguration`.
        case scan(interval: Duration, metrics: [MetricsAddress] = [])
    }

    package var watch: Watch
    package var runFolder: RunFolder
    package var logFormat: LogFormat
    /// Of this program, as the metrics tell it.
    package var version: String
    /// Whether metrics name pods.
    package var hasPodLabels: Bool

    package init(
        watch: Watch, runFolder: RunFolder, logFormat: LogFormat, version: String,
        hasPodLabels: Bool = true
    ) {
        self.watch = watch
        self.runFolder = runFolder
        self.logFormat = logFormat
        self.version = version
        self.hasPodLabels = hasPodLabels
    }
}

extension AgentConfiguration {
    var metrics: [MetricsAddress] {
        switch watch {
        case .guard(let configuration, _): configuration.metrics
        case .scan(_, let metrics): metrics
        }
    }
}

/// Which cgroups the agent is to guard, and how.
package struct GuardConfiguration: Sendable {
    package var cgroups: [String]
    package var policy: Policy
    package var tableSize: Int?
    package var state: GuardState
    package var detachOnExit: Bool
    /// Between two sweeps of the claim table.
    package var sweepInterval: Duration
    /// What is done where two sockets are found to share a tuple.
    package var onShadow: OnShadow
    /// What is done where somebody else took the guard off one of the cgroups.
    package var onDetach: OnDetach
    /// Where metrics are served; nowhere by default. Fixed while the agent runs.
    package var metrics: [MetricsAddress]

    package init(
        cgroups: [String], policy: Policy, tableSize: Int?, state: GuardState, detachOnExit: Bool,
        sweepInterval: Duration, onShadow: OnShadow = .report, onDetach: OnDetach = .attach,
        metrics: [MetricsAddress] = []
    ) {
        self.cgroups = cgroups
        self.policy = policy
        self.tableSize = tableSize
        self.state = state
        self.detachOnExit = detachOnExit
        self.sweepInterval = sweepInterval
        self.onShadow = onShadow
        self.onDetach = onDetach
        self.metrics = metrics
    }
}

/// What the agent does where somebody else took the guard off a cgroup that it is to guard.
package enum OnDetach: String, CaseIterable, Sendable {
    /// It is said, and the guard attached again.
    case attach
    /// The agent ends with an error.
    case fail
}
