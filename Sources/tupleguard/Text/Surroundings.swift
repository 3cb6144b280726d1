// SPDX-License-Identifier: Apache-2.0
// What is attached around a guard, as JSON has it.

import TupleguardKernel

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
