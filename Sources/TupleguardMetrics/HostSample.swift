// SPDX-License-Identifier: Apache-2.0
// One look at the guard and at the host's ports: what the metrics and `top` are made from.

package import TupleguardAgentClient
package import TupleguardHostSurvey
package import TupleguardKernel
package import TupleguardLinux

/// What the guard, the agent and the host's sockets are like at one moment.
package struct HostSample: Sendable {
    /// The guard of this moment; of several cgroups, each by itself.
    package struct Guard: Sendable {
        package let cgroups: [(attachment: Attachment, counters: Counters)]
        /// Connect programs of others that run after the guard, for each of `cgroups`; empty where
        /// nobody asked.
        package let programsAfter: [Int]
        /// What each of `cgroups` has open of its budget of connections; nil where it has none.
        package let connections: [ConnectionBudget?]
        package let claims: Int
        /// The programs with most claims, the one with most first; as many as were asked for.
        package let owners: [ClaimOwner]
        package let tableSize: Int

        package init(of state: GuardState, owners most: Int, findsPrograms: Bool) throws {
            cgroups = try state.countedAttachments()
            programsAfter = (findsPrograms ? cgroups : []).map {
                state.surroundings(of: $0.attachment).count(where: \.runsAfter)
            }
            connections = try cgroups.map { try state.connections(of: $0.attachment) }
            (claims, owners) = try state.claimCountAndOwners(most)
            tableSize = try state.tableSize()
        }

        package var total: Counters { cgroups.reduce(Counters()) { $0 + $1.counters } }
    }

    package let guardSight: GuardSight<Guard>
    /// Nil where no agent runs.
    package let agent: AgentSummary?
    package let survey: Survey
    /// Nanoseconds that this look took.
    package let nanoseconds: UInt64

    /// Looks; costs about a microsecond for each socket of the host.
    ///
    /// - Parameters:
    ///   - owners: how many programs to name that have claims.
    ///   - findsPrograms: whether to look for connect programs of others, at each cgroup above and
    ///     below a guarded one.
    /// - Throws: what netlink refuses us in our own network namespace.
    package init(
        _ selection: NetworkNamespace.Selection, _ scope: Survey.Scope, state: GuardState,
        agent: AgentSummary?, owners: Int = 0, findsPrograms: Bool = true
    ) throws {
        let begun = KernelClock.monotonic
        guardSight = GuardSight {
            try Guard(of: state, owners: owners, findsPrograms: findsPrograms)
        }
        self.agent = agent
        survey = try Survey(selection, scope, ranges: state.ownRanges)
        nanoseconds = KernelClock.monotonic - begun
    }

    /// Nil where there is none, and where it could not be looked at.
    package var `guard`: Guard? {
        if case .attached(let `guard`) = guardSight { `guard` } else { nil }
    }

    /// Why the guard could not be looked at; nil when it could, or when there is none.
    package var unseenGuard: String? {
        if case .unseen(let why) = guardSight { why } else { nil }
    }
}
