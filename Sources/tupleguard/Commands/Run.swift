// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardAgent
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux

/// `tupleguard run`
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the agent: guard cgroups and log every refusal.",
        discussion: """
            Runs in the foreground, as a service manager wants it, and tells systemd when it is \
            ready (Type=notify). The guard stays attached when the agent ends or is killed; the \
            next agent adopts it. A cgroup that is not there is waited for, and one that somebody \
            else took the guard off is guarded again. SIGTERM and SIGINT end the agent; SIGHUP \
            has it read the configuration file again, and look at once.

            Options that are not given are read from the configuration file: \
            tupleguard.conf(5).

            EXAMPLES
              tupleguard run
              tupleguard run --check --config ./tupleguard.conf
              tupleguard run --cgroup system.slice
              tupleguard run --cgroup system.slice --cgroup user.slice --log-format json
              tupleguard run --cgroup proxy.slice --mode observe --detach-on-exit
              tupleguard run --scan --interval 5

            With --scan it attaches nothing and needs no BPF: for kernels before 6.1, and where \
            BPF is not allowed. It looks at all connected UDP sockets every few seconds, logs \
            those that share a 4-tuple, counts them for `stats`, and shows them in `conflicts`. It \
            refuses nothing, and misses what comes and goes between two looks.

            EXIT STATUS
              0   it was told to stop
              1   it failed, and may be started again
              64  the arguments make no sense
              78  starting it again is of no use until somebody has changed something
            """)

    @Flag(help: "Attach nothing: find conflicts by looking at all sockets now and then.")
    var scan = false

    /// What --scan was called first.
    @Flag(help: .hidden)
    var userspace = false

    private var scans: Bool { scan || userspace }

    @Option(
        help: ArgumentHelp("With --scan: how often to look (10).", valueName: "seconds"))
    var interval: Int?

    @Option(
        help: """
            text: lines for people; json: an object for each line; journal: entries of systemd's \
            journal, with fields. (default: journal where that reads standard error, else text)
            """)
    var logFormat: LogFormat?

    @Flag(help: "Read the configuration, say what is wrong with it or what it asks for, and end.")
    var check = false

    @OptionGroup var settings: AgentSettings
    @OptionGroup(title: "Configuration") var configurationFile: ConfigurationOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    func validate() throws {
        if scans { try validateThatNothingIsAttached() }
        if interval != nil && !scans {
            throw ValidationError("--interval goes with --scan; see --sweep-interval")
        }
        if let interval, !(1...86_400).contains(interval) {
            throw ValidationError("--interval \(interval): choose between 1 and 86400")
        }
    }

    /// What --scan would ignore is refused, so that nobody relies on it.
    private func validateThatNothingIsAttached() throws {
        func refuse(_ option: String) -> ValidationError {
            ValidationError("--scan attaches nothing: give no \(option)")
        }
        if !settings.cgroups.isEmpty { throw refuse("--cgroup") }
        if settings.detachOnExit != nil { throw refuse("--detach-on-exit") }
        if settings.onShadow != nil { throw refuse("--on-shadow") }
        if settings.onDetach != nil { throw refuse("--on-detach") }
        if settings.policyOptions.isGiven {
            throw refuse("policy (--mode, --discover and so on)")
        }
        if configurationFile.config != nil { throw refuse("--config") }
        if check { throw refuse("--check") }
    }

    /// What the agent ends with where starting it again would be of no use: a service manager is
    /// told not to try.
    private static let notToBeRetried = ExitCode(ConfigurationOptions.mistaken)

    func run() throws {
        let watch = try configurationFile.endingForMistakes { try self.watch() }
        if check, case .guard(let configuration, _) = watch {
            let mode = configuration.policy.mode.rawValue
            print(
                "right: guard \(configuration.cgroups.map(printable).joined(separator: ", ")) (\(mode))"
            )
            return
        }
        let settings = try configurationFile.endingForMistakes { try completeSettings() }
        PodNames.system.use(settings.podPlaces)
        do {
            try Daemon(
                AgentConfiguration(
                    watch: watch, runFolder: folders.agentFolder,
                    logFormat: logFormat ?? .suitable, version: version,
                    hasPodLabels: settings.podLabels ?? true)
            ).run()
        } catch let error where Self.takesAPerson(error) {
            Terminal.note("Error: \(error)")
            throw Self.notToBeRetried
        }
    }

    /// Whether it stays so until somebody changes the configuration, the machine or the state.
    private static func takesAPerson(_ error: any Error) -> Bool {
        switch error {
        case CgroupError.noHierarchy, CgroupError.versionOneOnly, CgroupError.notACgroup,
            AgentError.detached:
            true
        case let error as GuardError:
            switch error {
            case .notPermitted, .kernelTooOld, .noBTF, .lockedDown, .otherABI, .damagedState,
                .passingPlace, .tableSize, .tableSizeFixed:
                true
            default: false
            }
        default: false
        }
    }

    /// Without a configuration file with --scan.
    private func completeSettings() throws -> AgentSettings {
        scans ? settings : try settings.completed(by: configurationFile.read())
    }

    private func watch() throws -> AgentConfiguration.Watch {
        if scans {
            return .scan(interval: .seconds(interval ?? 10), metrics: settings.metrics)
        }
        let read: @Sendable () throws -> GuardConfiguration = {
            [settings, configurationFile, state = folders.guardState] in
            try settings.completed(by: configurationFile.read()).guardConfiguration(state: state)
        }
        return .guard(try read(), reread: read)
    }
}

extension LogFormat: ExpressibleByArgument {}
