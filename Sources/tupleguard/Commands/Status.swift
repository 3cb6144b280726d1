// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardAgentClient
import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords

/// `tupleguard status`
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which cgroups are guarded, how, and how full the table is.",
        discussion: """
            Ends with 0 when a guard is attached, with 3 when none is; with --agent, with 0 when an \
            agent works, with 3 when none runs or it hangs.

            EXAMPLES
              tupleguard status
              tupleguard status --json
              tupleguard status --agent
            """)

    @Flag(help: "One JSON object.")
    var json = false

    @Flag(name: .customLong("agent"), help: "Only whether the agent works, as a health check asks.")
    var agentOnly = false

    @OptionGroup(title: "Folders") var folders: FolderOptions

    struct Program: Encodable {
        let hook: String
        let id: UInt32
        let tag: String

        init(_ program: ProgramInfo) {
            hook = program.hook.title
            id = program.id
            tag = program.tag
        }
    }

    private struct Report: Encodable {
        struct Guarded: Encodable {
            let cgroup: String?
            let cgroupId: UInt64
            let mode: String
            let errno: String
            let whenFull: String
            let lookUp: String
            let looksUp: Bool
            let discover: String
            let whenExhausted: String
            let strict: Bool
            /// Absent where it has none of its own.
            let ports: OwnPorts?
            /// Connections that it may have open, and those it has; absent where none are counted.
            let maxConnections: Int?
            let connections: Int?
            let outsiders: String
            let since: Timestamp
            let programs: [Program]
            let otherPrograms: [OtherProgramReport]
        }

        struct OwnPorts: Encodable {
            struct Used: Encodable {
                let tcp: Int
                let udp: Int
            }

            let first: UInt16
            let last: UInt16
            /// Those that a connection to the busiest destination cannot have; absent where that
            /// could not be seen.
            let used: Used?

            init(_ ports: ClosedRange<UInt16>, _ use: OwnPortsUse?) {
                (first, last) = (ports.lowerBound, ports.upperBound)
                used = use.map { Used(tcp: $0.tcp.used, udp: $0.udp.used) }
            }
        }

        struct Ports: Encodable {
            let networkNamespace: String
            let first: UInt16
            let last: UInt16
            let reserved: String

            init(_ namespace: NetworkNamespace, _ settings: PortSettings) {
                networkNamespace = namespace.path
                first = settings.range.lowerBound
                last = settings.range.upperBound
                reserved = settings.reservedList
            }
        }

        struct AgentState: Encodable {
            let running: Bool
            let pid: Int32?
            /// "none", "working" or "hanging".
            let state: String
            let doing: String?
            let why: String?

            init(_ presence: AgentPresence) {
                running = presence.pid != nil
                pid = presence.pid
                state = presence.name
                if case .working(_, let doing) = presence {
                    self.doing = doing
                } else {
                    doing = nil
                }
                if case .hanging(_, let why) = presence { self.why = why } else { why = nil }
            }
        }

        let guarded: [Guarded]
        /// Absent where nothing is attached for them.
        let outsiders: OutsidersReport?
        let localPorts: [Ports]
        let claims: Int
        let tableSize: Int
        let agent: AgentState
        let kernel: String
        let features: [String]
        let abi: UInt32
    }

    func validate() throws {
        if agentOnly && json { throw ValidationError("--agent is one line: give no --json") }
    }

    func run() throws {
        if agentOnly { return try showAgent() }
        try Platform.requireCapabilities()
        let state = folders.guardState
        let agent = AgentPresence(of: folders.agentFolder)
        let attachments: [Attachment]
        do {
            attachments = try state.attachments()
        } catch GuardError.noGuard {
            try reportNone(agent: agent)
            throw ExitCode(3)
        }
        let claims = try state.claimCount()
        let size = try state.tableSize()
        if json {
            print(encodeJSON(report(attachments, claims, size, agent)))
        } else {
            show(attachments, claims, size, agent)
        }
    }

    private func showAgent() throws {
        let agent = AgentPresence(of: folders.agentFolder)
        print("agent \(Self.agentText(agent))")
        if !agent.isWorking { throw ExitCode(3) }
    }

    /// What the programs lean on in this kernel.
    private var features: [String] {
        ["bpf_link", "set_retval", "bpf_loop", "ring buffer", "BTF", "iter/task_file", "iter/udp"]
    }

    /// The programs at the root; nil where no guard wants them, or they cannot be attached.
    private var outsiders: OutsidersAttachment? {
        try? folders.guardState.outsidersAttachment()
    }

    private func report(
        _ attachments: [Attachment], _ claims: Int, _ size: Int, _ agent: AgentPresence
    ) -> Report {
        let survey = lookAtPorts(attachments)
        return Report(
            guarded: attachments.map { attachment in
                Report.Guarded(
                    cgroup: attachment.path, cgroupId: attachment.id,
                    mode: attachment.policy.mode.rawValue,
                    errno: attachment.policy.refusal.rawValue,
                    whenFull: attachment.policy.whenFull.rawValue,
                    lookUp: attachment.policy.lookUp.rawValue, looksUp: attachment.looksUp,
                    discover: attachment.policy.discover.rawValue,
                    whenExhausted: attachment.policy.whenExhausted.rawValue,
                    strict: attachment.policy.isStrict,
                    ports: attachment.policy.ports.map {
                        Report.OwnPorts($0, survey?.ownPortsUse(attachment.policy))
                    },
                    maxConnections: attachment.policy.maxConnections,
                    connections: connections(of: attachment)?.used,
                    outsiders: attachment.policy.outsiders.rawValue,
                    since: attachment.since,
                    programs: attachment.programs.map(Program.init),
                    otherPrograms: folders.guardState.surroundings(of: attachment)
                        .map(OtherProgramReport.init))
            },
            outsiders: outsiders.map(OutsidersReport.init),
            localPorts: attachments.isEmpty
                ? [] : NetworkNamespace.portSettings().map(Report.Ports.init),
            claims: claims, tableSize: size, agent: .init(agent),
            kernel: KernelVersion.runningRelease, features: features, abi: GuardState.abi)
    }

    /// What happens to sockets that connect without a port: "all, else EAGAIN".
    private static func discovery(_ policy: Policy) -> String {
        switch (policy.discover, policy.mode) {
        case (.off, _) where policy.isStrict: "alone, else \(policy.whenExhausted.rawValue)"
        case (.off, _): "off"
        case (_, .observe): "\(policy.discover.rawValue) (not while observing)"
        default: "\(policy.discover.rawValue), else \(policy.whenExhausted.rawValue)"
        }
    }

    /// Nil where they are not counted, and where the guard was taken off meanwhile.
    private func connections(of attachment: Attachment) -> ConnectionBudget? {
        try? folders.guardState.connections(of: attachment)
    }

    /// Who has which ports of cgroups' own; nil where there are none, or nobody may know.
    private func lookAtPorts(_ attachments: [Attachment]) -> Survey? {
        let ranges = attachments.compactMap(\.policy.ports)
        return ranges.isEmpty ? nil : try? Survey(.all, .ports, ranges: ranges)
    }

    /// How much cgroups have used of the ports of their own.
    private func showOwnPorts(_ attachments: [Attachment]) {
        guard let survey = lookAtPorts(attachments) else { return }
        var table = Table(columns: [
            .init(title: "CGROUP", isFlexible: true), .init(title: "PORTS"),
            .init(title: "TCP IN USE", alignment: .right),
            .init(title: "UDP IN USE", alignment: .right),
        ])
        for attachment in attachments {
            guard let use = survey.ownPortsUse(attachment.policy) else { continue }
            table.rows.append([
                attachment.path ?? "(gone: cgroup \(attachment.id))",
                "\(use.range.lowerBound)-\(use.range.upperBound)",
                share(use.tcp), share(use.udp),
            ])
        }
        table.print()
        print("")
    }

    /// "3,000 of 10,000 (30%)"
    private func share(_ filling: Filling) -> String {
        "\(grouped(filling.used)) of \(grouped(filling.possible)) (\(percent(filling.usage)))"
    }

    /// From which ports discovery chooses, in each network namespace.
    private func showPorts() {
        var table = Table(columns: [
            .init(title: "NETWORK NAMESPACE", isFlexible: true), .init(title: "LOCAL PORTS"),
            .init(title: "RESERVED", isFlexible: true),
        ])
        for (namespace, settings) in NetworkNamespace.portSettings() {
            table.rows.append([
                namespace.path, "\(settings.range.lowerBound)-\(settings.range.upperBound)",
                settings.reservedList.isEmpty ? "none" : settings.reservedList,
            ])
        }
        table.print()
    }

    private func reportNone(agent: AgentPresence) throws {
        if json {
            print(encodeJSON(report([], 0, 0, agent)))
        } else {
            print("no guard is attached; attach one with: tupleguard attach CGROUP")
        }
    }

    /// Who fills a table that runs short.
    private func showOwners() {
        let state = folders.guardState
        guard let filling = try? state.filling(), filling >= GuardState.nearlyFull,
            let owners = try? state.largestOwners(3)
        else { return }
        print("          running short: whoever holds most of the table gets no more")
        for owner in owners { print("          \(owner.description)") }
    }

    private func showPrograms(_ attachments: [Attachment]) {
        var table = Table(columns: [
            .init(title: "CGROUP", isFlexible: true), .init(title: "HOOK"),
            .init(title: "PROGRAM", alignment: .right), .init(title: "TAG"),
        ])
        func add(_ path: String, _ programs: [ProgramInfo]) {
            for program in programs {
                table.rows.append([path, program.hook.title, "\(program.id)", program.tag])
            }
        }
        for attachment in attachments { add(attachment.path ?? "(gone)", attachment.programs) }
        if let outsiders { add("\(outsiders.path ?? "(gone)") (outsiders)", outsiders.programs) }
        table.print()
        for attachment in attachments {
            for program in folders.guardState.surroundings(of: attachment) {
                print(printable(program.remark(guarding: attachment.path ?? "")))
            }
        }
    }

    /// A guard refuses without one; but nobody logs that, sweeps the table, or puts it back.
    private static func agentText(_ agent: AgentPresence) -> String {
        switch agent {
        case .none: "not running (guard without agent): nobody logs refusals or sweeps the table"
        case .working(let pid, let doing): "running (pid \(pid)), \(printable(doing))"
        case .hanging(let pid, let why):
            "running (pid \(pid)), but hangs (guard without agent): \(printable(why))"
        }
    }

    private func show(
        _ attachments: [Attachment], _ claims: Int, _ size: Int, _ agent: AgentPresence
    ) {
        var table = Table(columns: [
            .init(title: "CGROUP", isFlexible: true), .init(title: "MODE"), .init(title: "ERRNO"),
            .init(title: "WHEN FULL"), .init(title: "OUTSIDERS"), .init(title: "LOOK-UP"),
            .init(title: "DISCOVER"), .init(title: "PORTS"), .init(title: "CONNECTIONS"),
            .init(title: "SINCE"),
        ])
        for attachment in attachments {
            let policy = attachment.policy
            let lookUp = attachment.looksUp ? "on" : "off"
            table.rows.append([
                attachment.path ?? "(gone: cgroup \(attachment.id))",
                policy.isStrict ? "\(policy.mode.rawValue), strict" : policy.mode.rawValue,
                policy.refusal.rawValue, policy.whenFull.rawValue, policy.outsiders.rawValue,
                policy.lookUp == .auto ? "auto (\(lookUp))" : lookUp, Self.discovery(policy),
                policy.ports.map { "\($0.lowerBound)-\($0.upperBound)" } ?? "any",
                connections(of: attachment)?.description ?? "any",
                attachment.since.clock,
            ])
        }
        table.print()
        print("")
        showOwnPorts(attachments)
        showPrograms(attachments)
        print("")
        showPorts()
        print("")
        let share = size > 0 ? 100 * claims / size : 0
        print("claims    \(grouped(claims)) of \(grouped(size)) (\(share)%)")
        showOwners()
        print("agent     \(Self.agentText(agent))")
        print("kernel    \(KernelVersion.runningRelease): \(features.joined(separator: ", "))")
    }
}
