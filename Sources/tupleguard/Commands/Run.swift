// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardAgent
import TupleguardKernel

/// `tupleguard run`
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the agent: guard cgroups and log every refusal.",
        discussion: """
            Runs in the foreground, as a service manager wants it, and tells systemd when it is \
            ready (Type=notify). The guard stays attached when the agent ends or is killed; the \
            next agent adopts it. SIGTERM and SIGINT end it.

            EXAMPLES
              tupleguard run --cgroup system.slice
              tupleguard run --cgroup system.slice --cgroup user.slice --log-format json
              tupleguard run --cgroup proxy.slice --mode observe --detach-on-exit
              tupleguard run --scan --interval 5

            With --scan it attaches nothing and needs no BPF: for kernels before 6.1, and where \
            BPF is not allowed. It looks at all connected UDP sockets every few seconds, logs \
            those that share a 4-tuple, counts them for `stats`, and shows them in `conflicts`. It \
            refuses nothing, and misses what comes and goes between two looks.
            """)

    @Option(
        name: .customLong("cgroup"),
        help: ArgumentHelp("A cgroup to guard; may be given several times.", valueName: "cgroup"))
    var cgroups: [String] = []

    @Flag(help: "Attach nothing: find conflicts by looking at all sockets now and then.")
    var scan = false

    /// What --scan was called first.
    @Flag(help: .hidden)
    var userspace = false

    private var scans: Bool { scan || userspace }

    @Option(
        help: ArgumentHelp("With --scan: how often to look (10).", valueName: "seconds"))
    var interval: Int?

    @Option(help: "text: lines for people; json: an object for each line.")
    var logFormat: LogFormat = .text

    @Flag(help: "Detach from these cgroups when the agent is told to stop.")
    var detachOnExit = false

    @Option(
        help: ArgumentHelp(
            "How often to drop claims without a socket and to claim for sockets that have none.",
            valueName: "seconds"))
    var sweepInterval = 60

    @Option(
        help: """
            What to do where two sockets are found to share a tuple, one of them past the guard, \
            which is looked for with each sweep. report: log it. destroy: also end the socket that \
            came later (its program gets ECONNABORTED), if it is the one that receives.
            """)
    var onShadow: OnShadow = .report

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    func validate() throws {
        if scans {
            try validateThatNothingIsAttached()
        } else if cgroups.isEmpty {
            throw ValidationError("give at least one --cgroup")
        }
        if interval != nil && !scans {
            throw ValidationError("--interval goes with --scan; see --sweep-interval")
        }
        if let interval, !(1...86_400).contains(interval) {
            throw ValidationError("--interval \(interval): choose between 1 and 86400")
        }
        if !(1...86_400).contains(sweepInterval) {
            throw ValidationError("--sweep-interval \(sweepInterval): choose between 1 and 86400")
        }
    }

    /// What --scan would ignore is refused, so that nobody relies on it.
    private func validateThatNothingIsAttached() throws {
        func refuse(_ option: String) -> ValidationError {
            ValidationError("--scan attaches nothing: give no \(option)")
        }
        if !cgroups.isEmpty { throw refuse("--cgroup") }
        if detachOnExit { throw refuse("--detach-on-exit") }
        if onShadow != .report { throw refuse("--on-shadow") }
        if policyOptions.policy != Policy() || policyOptions.tableSize != nil {
            throw refuse("policy (--mode, --discover and so on)")
        }
    }

    func run() throws {
        try Daemon(
            AgentConfiguration(
                watch: scans
                    ? .scan(interval: .seconds(interval ?? 10)) : .guard(guardConfiguration),
                runFolder: folders.agentFolder, logFormat: logFormat)
        ).run()
    }

    private var guardConfiguration: GuardConfiguration {
        GuardConfiguration(
            cgroups: cgroups, policy: policyOptions.policy, tableSize: policyOptions.tableSize,
            state: folders.guardState, detachOnExit: detachOnExit,
            sweepInterval: .seconds(sweepInterval), onShadow: onShadow)
    }
}

extension LogFormat: ExpressibleByArgument {}
extension OnShadow: ExpressibleByArgument {}
