// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardDeferral
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

            With --defer-bind, programs that bind() to an address and port 0 before connect() share \
            ports as those do that ask for it (IP_BIND_ADDRESS_NO_PORT): each port serves every \
            destination instead of one. That needs no privilege; without root the command runs \
            without a guard, and with no_new_privs (setuid programs stay who they are). If exec is \
            killed, so is the command.

            EXAMPLES
              tupleguard exec -- tupleguard overshadow
              tupleguard exec --mode observe -- ./load-test --clients 500
              tupleguard exec --discover all -- ./load-test --clients 50000
              tupleguard exec --defer-bind -- node proxy.js
              tupleguard exec --defer-bind=udp --discover all -- java -jar resolver.jar
              tupleguard exec --json -- make check
            """)

    @Argument(parsing: .postTerminator, help: "The command and its arguments, after --.")
    var command: [String] = []

    @Option(
        defaultAsFlag: DeferredTransports.tcp.rawValue, parsing: .next,
        help: """
            Leave the port open when a program binds a socket to port 0, and have it chosen at \
            connect(): tcp, udp or all. (With no value: tcp.) udp gains nothing without \
            --discover all, and is for programs that connect the sockets they bind: one that \
            only receives has no port.
            """)
    // As a string: of any other type a wrong value would be taken for none.
    var deferBind: String?

    @Option(
        help: """
            With --defer-bind: what getsockname() answers before connect(). port: a port, which \
            the socket then keeps to itself as if it had not been deferred; zero: port 0, and \
            getsockname() is as fast as ever. (default: port for TCP, zero for UDP)
            """)
    var getsockname: Deferral.Answer?

    @Flag(help: "With --defer-bind: run the command without a guard, in the cgroup it is in.")
    var noGuard = false

    @Flag(help: "The report as one JSON object.")
    var json = false

    @Flag(help: "No report.")
    var quiet = false

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    /// Statuses of exec itself, as env(1) and timeout(1) have them.
    static let failed: Int32 = 125
    private static let cannotRun: Int32 = 126
    private static let notFound: Int32 = 127

    func validate() throws {
        if command.isEmpty {
            throw ValidationError("give a command after --, such as: tupleguard exec -- ls")
        }
        if let deferBind, DeferredTransports(rawValue: deferBind) == nil {
            throw ValidationError("--defer-bind is tcp, udp or all, not '\(deferBind)'")
        }
        if deferBind == nil && (noGuard || getsockname != nil) {
            throw ValidationError("--no-guard and --getsockname are for --defer-bind: give it too")
        }
        if noGuard && policyOptions.isGiven {
            throw ValidationError("a policy is for a guard, and --no-guard wants none")
        }
    }

    func run() throws {
        let status: Int32
        do {
            status = try isGuarded ? runGuarded() : runBare()
        } catch let error {
            Terminal.note("Error: \(error)")
            throw ExitCode(Self.failed)
        }
        throw ExitCode(status)
    }

    /// Deferring needs no privilege; who asks for a policy gets it, or hears why not.
    private var isGuarded: Bool {
        guard deferBind != nil, !policyOptions.isGiven else { return true }
        return !noGuard && (try? Platform.requireCapabilities()) != nil
    }

    // MARK: - With a guard

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
        if !quiet, let remark = policyOptions.policy.portRemark() {
            Terminal.note("tupleguard: \(remark)")
        }
        let outcome = try run(in: temporary, hierarchy, signals)
        if !quiet { try report(state, cgroup, outcome) }
        return outcome.status
    }

    private func run(
        in temporary: borrowing TemporaryCgroup, _ hierarchy: CgroupHierarchy, _ signals: sigset_t
    ) throws -> Outcome {
        let own = hierarchy.ownFolder
        let folder = temporary.cgroup.folder
        // A child is born in its parent's cgroup: go there for that moment.
        try Cgroup.enter(folder)
        let running: Running
        do {
            running = try start(signals)
        } catch let error {
            try Cgroup.enter(own)
            throw error
        }
        try Cgroup.enter(own)
        let status = running.wait(onSecondTermination: { Cgroup.killAll(in: folder) })
        tellOfStragglers(temporary.processes.count)
        temporary.killAll()
        return Outcome(status: status, deferred: running.finish())
    }

    // MARK: - Without one

    private func runBare() throws -> Int32 {
        let signals = Child.blockSignals()
        if !noGuard && !quiet {
            Terminal.note(
                "tupleguard: not root, so there is no guard: nobody is refused a duplicate tuple")
        }
        let running = try start(signals)
        let status = running.wait(onSecondTermination: { Child.endChildren() })
        tellOfStragglers(Child.endChildren())
        let outcome = Outcome(status: status, deferred: running.finish())
        if !quiet { report(outcome) }
        return status
    }

    // MARK: - The command

    /// What became of it.
    private struct Outcome {
        let status: Int32
        /// Nil without --defer-bind.
        let deferred: Deferral.Counts?
    }

    /// The command, and who looks at its calls.
    private struct Running: ~Copyable {
        /// Or the exit status that says why there is none.
        let child: Result<Child, ExitCode>
        var supervisor: BindSupervisor?

        func wait(onSecondTermination: () -> Void) -> Int32 {
            switch child {
            case .success(let child): child.wait(onSecondTermination: onSecondTermination)
            case .failure(let exit): exit.rawValue
            }
        }

        consuming func finish() -> Deferral.Counts? {
            supervisor.take()?.finish()
        }
    }

    private func start(_ signals: sigset_t) throws -> Running {
        guard let transports = deferBind.flatMap(DeferredTransports.init)?.transports else {
            return Running(child: startChild(command, signals), supervisor: nil)
        }
        let deferral = Deferral(transports, answer: getsockname)
        // They stay below this process, which the kernel therefore lets have their sockets.
        try adoptOrphans()
        let channel = try LauncherChannel()
        let child = try Child(
            [
                "/proc/self/exe", BindLauncherCommand.configuration.commandName!,
                "--channel", "\(channel.launchers.raw)", "--parent", "\(getpid())",
            ] + (getsockname == .zero ? [] : ["--names"]) + ["--"] + command,
            signalMask: signals, inheriting: channel.launchers.raw)
        // Without a listener it has said why, and ends.
        guard let listener = try channel.listener() else {
            return Running(child: .success(child), supervisor: nil)
        }
        return Running(
            child: .success(child),
            supervisor: try BindSupervisor(OwnedDescriptor(taking: listener), deferral))
    }

    private func startChild(_ command: [String], _ signals: sigset_t) -> Result<Child, ExitCode> {
        do throws(Errno) {
            return .success(try Child(command, signalMask: signals))
        } catch {
            return .failure(Self.cannotStart(command[0], error))
        }
    }

    /// Says why, and with which status to end.
    static func cannotStart(_ command: String, _ error: Errno) -> ExitCode {
        Terminal.note("Error: cannot run \(command): \(error)")
        return ExitCode(error.number == ENOENT ? notFound : cannotRun)
    }

    private func tellOfStragglers(_ count: Int) {
        if count > 0 && !quiet {
            Terminal.note(
                "tupleguard: ended \(amount(count, "process")) that the command left running")
        }
    }

    // MARK: - The report

    private struct Report: Encodable {
        let command: [String]
        let exitStatus: Int32
        var refused: UInt64?
        var counters: [String: UInt64]?
        var conflicts: [Conflict<GuardEvent>]?
        var deferred: Deferral.Counts?
    }

    /// Without a guard.
    private func report(_ outcome: Outcome) {
        if json {
            let report = Report(
                command: command, exitStatus: outcome.status, deferred: outcome.deferred)
            Terminal.note(encodeJSON(report))
        } else {
            for line in outcome.deferred?.lines ?? [] { Terminal.note(line) }
        }
    }

    private func report(_ state: GuardState, _ cgroup: Cgroup, _ outcome: Outcome) throws {
        let names = CgroupNames()
        let counters = try state.counters(of: cgroup.id)
        let conflicts = try state.conflicts().filter { $0.last.guardedCgroupId == cgroup.id }
            .map { $0.namingCgroups(names.path) }
        if json {
            let report = Report(
                command: command, exitStatus: outcome.status, refused: counters.refused,
                counters: counters.byName, conflicts: conflicts, deferred: outcome.deferred)
            Terminal.note(encodeJSON(report))
            return
        }
        Terminal.note("tupleguard: " + counters.summary(under: policyOptions.policy))
        for line in outcome.deferred?.lines ?? [] { Terminal.note(line) }
        for conflict in conflicts.prefix(20) {
            for line in KnownConflict.guard(conflict).lines { Terminal.note("  " + line) }
        }
        if conflicts.count > 20 {
            Terminal.note("  and \(amount(conflicts.count - 20, "more tuple"))")
        }
    }
}
