// SPDX-License-Identifier: Apache-2.0
// All that was found out, and all diagnoses made from it.

package import TupleguardHostSurvey
import TupleguardLinux
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
    package let files: HostFiles?
    package let guardSight: GuardSight
    /// Path of the cgroup with an id; nil where it is not known.
    package let cgroupPath: @Sendable (UInt64) -> String?

    package init(
        survey: Survey, earlier: Survey?, owners: SocketOwners, shadowOwners: SocketOwners,
        descriptors: [DescriptorUse], files: HostFiles?, guardSight: GuardSight,
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
        earlier?.namespaces.first { $0.namespace.inode == namespace.namespace.inode }
    }

    /// The processes with the most of these sockets.
    func processes(of inodes: some Sequence<UInt32>, limit: Int = 3) -> [Finding.Involved] {
        owners.count(inodes).prefix(limit).compactMap { pid, sockets in
            ProcessIdentity(pid: pid).map { .init($0, amount(sockets, "socket")) }
        }
    }

    /// Every diagnosis, most urgent first.
    package func findings() -> [Finding] {
        var findings: [Finding] = []
        for namespace in survey.namespaces {
            findings += portFindings(namespace)
            findings += rangeFindings(namespace)
            findings += lockedPorts(namespace)
        }
        findings += overshadowed()
        findings += descriptorFindings()
        findings += guardFindings()
        // sort(by:) keeps no order among equals; the index does.
        return findings.enumerated().sorted { a, b in
            if a.element.isMoreUrgent(than: b.element) { return true }
            return !b.element.isMoreUrgent(than: a.element) && a.offset < b.offset
        }.map(\.element)
    }

    /// What could not be seen, each a sentence.
    package func unseen() -> [String] {
        var unseen: [String] = []
        if let namespaces = survey.unseenNamespaces { unseen.append(namespaces) }
        let unreadable = max(owners.unreadable, shadowOwners.unreadable)
        if unreadable > 0 {
            unseen.append("which sockets \(amount(unreadable, "process")) of other users have")
        }
        if uncountedDescriptors > 0 {
            unseen.append("how many descriptors \(amount(uncountedDescriptors, "process")) have")
        }
        if Proc.system.hidesProcesses {
            unseen.append("processes of other users: /proc hides them (hidepid)")
        }
        if case .unseen(let why) = guardSight { unseen.append("the guard: \(why)") }
        for namespace in survey.namespaces {
            let missing = namespace.tcp.unlistedSources + namespace.udp.unlistedSources
            if missing > 0 {
                unseen.append(
                    "\(amount(missing, "socket")) of more than 1,000 source addresses in \(namespace.namespace.name)"
                )
            }
        }
        return unseen
    }
}
