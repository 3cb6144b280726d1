// SPDX-License-Identifier: Apache-2.0
// Gathers the evidence: looks twice, for rates, and at what does not change in between.

package import TupleguardAgentClient
import TupleguardHostSurvey
package import TupleguardKernel
package import TupleguardLinux

extension Evidence {
    /// Looks at the host.
    ///
    /// - Parameters:
    ///   - sample: seconds between two looks at the ports; 0 for one look, which knows no rates.
    /// - Throws: what netlink refuses us in our own network namespace.
    package static func gather(
        _ selection: NetworkNamespace.Selection, sample: Double, guardState: GuardState,
        runFolder: RunFolder
    ) throws -> Evidence {
        let ranges = guardState.ownRanges
        let earlier =
            sample > 0 ? try Survey(selection, [.ports, .translations], ranges: ranges) : nil
        // What does not change in a second is looked at in between.
        let owners = earlier.map { SocketOwners(of: $0.inodes) }
        let descriptors = DescriptorUse.all(selection)
        let guardSight = GuardSight { try GuardFacts(guardState) }
        if let earlier {
            let passed = Double(KernelClock.monotonic - earlier.time) / 1e9
            sleep(seconds: max(0, sample - passed))
        }
        let survey = try Survey(selection, [.ports, .shadows, .translations], ranges: ranges)
        let hierarchy = try? CgroupHierarchy()
        var evidence = Evidence(
            survey: survey, earlier: earlier, owners: owners ?? SocketOwners(of: survey.inodes),
            shadowOwners: SocketOwners(of: survey.shadows.flatMap(\.members).map(\.inode)),
            descriptors: descriptors.uses, files: selection == .all ? .current() : nil,
            guardSight: guardSight,
            cgroupPath: { id in id == 0 ? nil : hierarchy?.path(of: id) })
        evidence.agent = AgentPresence(of: runFolder)
        evidence.kernelFaults = .running
        evidence.uncountedDescriptors = descriptors.unreadable
        return evidence
    }
}
