// SPDX-License-Identifier: Apache-2.0
// What is attached around a guard, for whoever attaches it or asks.

import TupleguardKernel
import TupleguardLinux

extension GuardState {
    /// What is to be known after attaching to a cgroup: a sentence for each program that may send
    /// sockets elsewhere afterwards, and for what keeps outsiders from being seen.
    func remarks(on cgroup: Cgroup) throws -> [String] {
        var remarks: [String] = []
        if let own = try attachments().first(where: { $0.id == cgroup.id }),
            own.policy.outsiders != .ignore, let obstacle = try obstacleAtRoot()
        {
            let what = own.looksUp ? "looked up one by one" : "not seen"
            remarks.append("sockets outside are \(what): \(obstacle)")
        }
        return remarks
            + (try otherPrograms(of: cgroup)).filter(\.runsAfter)
            .map { $0.remark(guarding: cgroup.path) }
    }

    /// The connect programs of others around an attachment; none where its cgroup is gone.
    func surroundings(of attachment: Attachment) -> [OtherProgram] {
        guard let path = attachment.path, let hierarchy = try? CgroupHierarchy(),
            let cgroup = try? Cgroup(hierarchy.mountPoint + path, in: hierarchy)
        else { return [] }
        return (try? otherPrograms(of: cgroup)) ?? []
    }
}

/// A connect program of somebody else, as JSON has it.
struct OtherProgramReport: Encodable {
    let hook: String
    let id: UInt32
    let name: String
    let cgroup: String
    let runsAfter: Bool

    init(_ program: OtherProgram) {
        hook = program.hook
        id = program.id
        name = program.name
        cgroup = program.cgroup
        runsAfter = program.runsAfter
    }
}

/// What sees the sockets outside of all guarded cgroups, as JSON has it.
struct OutsidersReport: Encodable {
    let cgroup: String?
    let programs: [Status.Program]
    let claimed: UInt64
    let observed: UInt64
    let refused: UInt64

    init(_ attachment: OutsidersAttachment) {
        cgroup = attachment.path
        programs = attachment.programs.map(Status.Program.init)
        claimed = attachment.counters[.claimed]
        observed = attachment.counters[.observed]
        refused = attachment.counters[.refusedOutsider]
    }
}
