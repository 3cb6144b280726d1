// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// `tupleguard exec`
struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a command in a fresh guarded cgroup, then say what was refused.",
        discussion: """
            The report goes to standard error. exec ends with the command's own exit status \
            (128 + n when signal n ended it) and leaves nothing behind; what the command left \
            running in the background is ended with it.

            EXAMPLES
              tupleguard exec -- tupleguard overshadow
              tupleguard exec --mode observe -- ./load-test --clients 500
              tupleguard exec --discover all -- ./load-test --clients 50000
              tupleguard exec --json -- make check
            """)

    @Argument(parsing: .postTerminator, help: "The command and its arguments, after --.")
    var command: [String] = []

    @Flag(help: "The report as one JSON object.")
    var json = false

    @Flag(help: "No report.")
    var quiet = false

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    /// Statuses of exec itself, as env(1) and timeout(1) have them.
    private static let failed: Int32 = 125
    private static let cannotRun: Int32 = 126
    private static let notFound: Int32 = 127

    private struct Report: Encodable {
        let command: [String]
        let exitStatus: Int32
        let refused: UInt64
        let counters: [String: UInt64]
        let conflicts: [Conflict<GuardEvent>]
    }

    func validate() throws {
        if command.isEmpty {
            throw ValidationError("give a command after --, such as: tupleguard exec -- ls")
        }
    }

    func run() throws {
        let status: Int32
        do {
            status = try runGuarded()
        } catch let error {
            Terminal.note("Error: \(error)")
            throw ExitCode(Self.failed)
        }
        throw ExitCode(status)
    }

    private func runGuarded() throws -> Int32 {
        // Before any thread exists: from here on signals wait for us to ask for them.
        let signals = Child.blockSignals()
        try Platform.check()
        let state = folders.guardState
        let hasAgent = folders.agentFolder.agent != nil
        state.removeAbandonedRuns(hasAgent: hasAgent)
        let hierarchy = try CgroupHierarchy()
        let temporary = try TemporaryCgroup(in: hierarchy)
        let cgroup = temporary.cgroup
        try state.attach(cgroup, policy: policyOptions.policy, tableSize: policyOptions.tableSize)
        defer { try? state.detach(cgroup.id, path: cgroup.path) }
        try state.seed()
        let status = try run(in: temporary, hierarchy, signals)
        let stragglers = temporary.processes.count
        if stragglers > 0 && !quiet {
            Terminal.note(
                "tupleguard: ended \(amount(stragglers, "process")) that the command left running")
        }
        temporary.killAll()
        if !quiet { try report(state, cgroup, status) }
        return status
    }

    private func run(
        in temporary: borrowing TemporaryCgroup, _ hierarchy: CgroupHierarchy, _ signals: sigset_t
    ) throws -> Int32 {
        let own = hierarchy.ownFolder
        // A child is born in its parent's cgroup: go there for that moment.
        try Cgroup.enter(temporary.cgroup.folder)
        let child = Result { try Child(command, signalMask: signals) }
        try Cgroup.enter(own)
        switch child {
        case .success(let child):
            return child.wait(onSecondTermination: { [folder = temporary.cgroup.folder] in
                Cgroup.killAll(in: folder)
            })
        case .failure(let error as Errno):
            Terminal.note("Error: cannot run \(command[0]): \(error)")
            return error.number == ENOENT ? Self.notFound : Self.cannotRun
        case .failure(let error):
            throw error
        }
    }

    private func report(_ state: GuardState, _ cgroup: Cgroup, _ status: Int32) throws {
        let names = CgroupNames()
        let counters = try state.counters(of: cgroup.id)
        let conflicts = try state.conflicts().filter { $0.last.guardedCgroupId == cgroup.id }
            .map { $0.namingCgroups(names.path) }
        if json {
            let report = Report(
                command: command, exitStatus: status, refused: counters.refused,
                counters: counters.byName,
                conflicts: conflicts)
            Terminal.note(encodeJSON(report))
            return
        }
        var summary =
            "tupleguard: \(amount(counters.connectsClaimed, "UDP connect")) guarded, \(grouped(counters.refused)) refused"
        if counters[.observed] > 0 {
            summary += ", \(grouped(counters[.observed])) would have been"
        }
        if counters[.discovered] > 0 {
            summary += ", ports chosen for \(grouped(counters[.discovered]))"
        }
        if counters[.unresolved] > 0 {
            summary +=
                ", \(grouped(counters[.unresolved])) not guarded (shared port for the kernel to choose)"
        }
        Terminal.note(summary)
        for conflict in conflicts.prefix(20) {
            for line in KnownConflict.guard(conflict).lines { Terminal.note("  " + line) }
        }
        if conflicts.count > 20 {
            Terminal.note("  and \(amount(conflicts.count - 20, "more tuple"))")
        }
    }
}
