// SPDX-License-Identifier: Apache-2.0
// All that the diagnoses are made from.

package import TupleguardAgentClient
package import TupleguardHostSurvey
package import TupleguardKernel
import TupleguardLinux
package import TupleguardRecords
import TupleguardSockets

/// Everything that the diagnoses are made from.
package struct Evidence: Sendable {
    package let survey: Survey
    /// The same a little earlier, for rates.
    package let earlier: Survey?
    package let owners: SocketOwners
    /// Of the sockets that are overshadowed, and of those that overshadow them.
    package let shadowOwners: SocketOwners
    package let descriptors: [DescriptorUse]
    /// Processes whose descriptors could not be counted.
    package var uncountedDescriptors = 0
    package var kernelFaults = KernelFaults()
    /// That source NAT chooses from.
    package var translationPorts = TranslationSurvey.defaultPorts
    package let files: HostFiles?
    package let guardSight: GuardSight<GuardFacts>
    /// Nil where nobody looked.
    package var agent: AgentPresence?
    /// Path of the cgroup with an id; nil where it is not known.
    package let cgroupPath: @Sendable (UInt64) -> String?

    package init(
        survey: Survey, earlier: Survey?, owners: SocketOwners, shadowOwners: SocketOwners,
        descriptors: [DescriptorUse], files: HostFiles?, guardSight: GuardSight<GuardFacts>,
        cgroupPath: @escaping @Sendable (UInt64) -> String?
    ) {
        self.survey = survey
        self.earlier = earlier
        self.owners = owners
        self.shadowOwners = shadowOwners
        self.descriptors = descriptors
        self.files = files
        self.guardSight = guardSight
        self.cgroupPath = cgroupPath
    }

    /// Seconds between the two looks.
    var seconds: Double {
        earlier.map { Double(survey.time - $0.time) / 1e9 } ?? 0
    }

    /// The earlier look at the same namespace.
    func before(_ namespace: NamespaceSurvey) -> NamespaceSurvey? {
        earlier?.namespace(like: namespace)
    }

    /// A process, and how many of some sockets it has.
    package struct Holder: Sendable {
        package let process: ProcessIdentity
        package let sockets: Int
    }

    /// The processes with the most sockets to a destination.
    package func holders(of pressure: DestinationPressure) -> [Holder] {
        holders(of: pressure.destination.inodes)
    }

    private func holders(of inodes: some Sequence<UInt32>, limit: Int = 3) -> [Holder] {
        owners.count(inodes).prefix(limit).compactMap { pid, sockets in
            ProcessIdentity(pid: pid).map { Holder(process: $0, sockets: sockets) }
        }
    }

    /// The processes with the most of these sockets.
    func processes(of inodes: some Sequence<UInt32>, limit: Int = 3) -> [Finding.Involved] {
        holders(of: inodes, limit: limit).map { .init($0.process, amount($0.sockets, "socket")) }
    }
}
