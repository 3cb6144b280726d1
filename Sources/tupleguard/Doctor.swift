// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgent
import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// `tupleguard doctor`
struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what is wrong with this host's connections, and what to do.",
        discussion: """
            For the night on which connect() says "Cannot assign requested address". Looks at the TCP \
            and UDP sockets of every network namespace that it may enter, at descriptor limits and at \
            the guard, and says what is wrong, most urgent first: what, the figures behind it, the \
            processes, and the command or line of code that helps.

            It changes nothing, sends nothing and needs no root; without root it sees its own network \
            namespace and the owners of its own user's sockets, and says what it could not see.

            WHAT IT FINDS
              ports to one destination, or at one address, that run out, and when
              ranges of ports that are small, or in pieces
              ports held by TIME_WAIT, and whether tcp_tw_reuse helps
              programs that bind before they connect, and lock a port for one destination
              UDP sockets that are overshadowed, with both processes
              descriptor limits that are nearly reached
              a guard that is missing, attached too low, or short of room

            EXAMPLES
              tupleguard doctor                    once; counts for a second to know the rates
              tupleguard doctor --sample 10        for ten seconds, where connections come in bursts
              tupleguard doctor --watch 5          again every five seconds
              tupleguard doctor --json             for machines
              ip netns exec blue tupleguard doctor --namespace self

            EXIT STATUS
              0   nothing is wrong
              1   there are warnings
              2   something is critical
              3   it could not look; the message says why
              64  the arguments make no sense
            """)

    @Flag(help: "One JSON object; with --watch one for each line.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "Count twice, so far apart, to tell how fast ports fill; 0: once.",
            valueName: "seconds"))
    var sample = 1.0

    @Option(help: ArgumentHelp("Look again after so many seconds.", valueName: "seconds"))
    var watch: Double?

    @Option(help: "all: every network namespace that may be entered; self: the own one.")
    var namespace = NetworkNamespace.Selection.all

    @OptionGroup(title: "Places") var places: Places

    static let couldNotLook = ExitCode(3)

    func validate() throws {
        if !(0...3600).contains(sample) {
            throw ValidationError("--sample \(sample): choose between 0 and 3600")
        }
        if let watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch \(watch): choose between 0.1 and 86400")
        }
    }

    func run() throws {
        while true {
            let examination = try examine()
            if json {
                print(encodeJSON(DoctorReport(examination)))
            } else {
                if watch != nil { Terminal.clear() }
                for line in DoctorText(examination).lines { print(line) }
            }
            fflush(nil)
            guard let watch else { throw ExitCode(examination.exitStatus) }
            sleep(seconds: watch)
        }
    }

    private func examine() throws -> Examination {
        do {
            return Examination(try gather())
        } catch {
            Terminal.note("Error: cannot look at the sockets: \(error)")
            throw Self.couldNotLook
        }
    }

    /// Looks twice. What does not change in a second is looked at in between.
    private func gather() throws -> Evidence {
        let earlier = sample > 0 ? try Survey(namespace, .ports) : nil
        let owners = earlier.map { SocketOwners(of: $0.inodes) }
        let descriptors = DescriptorUse.all(namespace)
        let guardSight = lookAtGuard()
        if let earlier {
            let passed = Double(KernelClock.monotonic - earlier.time) / 1e9
            sleep(seconds: max(0, sample - passed))
        }
        let survey = try Survey(namespace, [.ports, .shadows])
        let hierarchy = try? CgroupHierarchy()
        var evidence = Evidence(
            survey: survey, earlier: earlier, owners: owners ?? SocketOwners(of: survey.inodes),
            shadowOwners: SocketOwners(of: survey.shadows.flatMap(\.members).map(\.inode)),
            descriptors: descriptors.uses, files: namespace == .all ? .current() : nil,
            guardSight: guardSight,
            cgroupPath: { id in id == 0 ? nil : hierarchy?.path(of: id) })
        evidence.uncountedDescriptors = descriptors.unreadable
        return evidence
    }

    private func lookAtGuard() -> GuardSight {
        do {
            try Platform.requireCapabilities()
            return .attached(try GuardFacts(places.guardState))
        } catch GuardError.noGuard {
            return .none
        } catch {
            return .unseen("\(error)")
        }
    }
}

extension GuardFacts {
    fileprivate init(_ state: GuardState) throws {
        let attachments = try state.attachments()
        if attachments.isEmpty { throw GuardError.noGuard(path: state.folder) }
        let counters = try attachments.reduce(Counters()) { try $0 + state.counters(of: $1.id) }
        self.init(
            cgroups: attachments.compactMap(\.path), claims: try state.claimCount(),
            tableSize: try state.tableSize(), largestTable: GuardError.tableSizes.upperBound,
            eventsDropped: Int(clamping: counters[.eventsDropped]),
            refusedOutside: Int(clamping: counters[.refusedOutside]),
            withoutRoom: Int(clamping: counters[.allowedTableFull])
                + Int(clamping: counters[.refusedTableFull]))
    }
}

extension NetworkNamespace.Selection: ExpressibleByArgument {}

/// What was found, ready to be shown.
struct Examination {
    let evidence: Evidence
    let findings: [Finding]
    let unseen: [String]

    init(_ evidence: Evidence) {
        self.evidence = evidence
        findings = evidence.findings()
        unseen = evidence.unseen()
    }

    var worst: Severity? { findings.map(\.severity).max() }

    var exitStatus: Int32 {
        switch worst {
        case .critical: 2
        case .warning: 1
        case .info, nil: 0
        }
    }
}

/// The whole as JSON. Its field names are stable.
struct DoctorReport: Encodable {
    struct NamespaceReport: Encodable {
        let name: String
        let possiblePorts: Int
        let sources: [SourceReport]
        let destinations: [DestinationReport]
    }

    struct SourceReport: Encodable {
        let `protocol`: String
        let address: String
        let ports: Int
        let sharedPorts: Int
        let sockets: Int
        let timeWait: Int
    }

    struct DestinationReport: Encodable {
        let `protocol`: String
        let local: String
        let remote: String
        let used: Int
        let possible: Int
        let timeWait: Int
        let perSecond: Double?
        let secondsUntilFull: Double?
    }

    let status: String
    let findings: [Finding]
    let namespaces: [NamespaceReport]
    let unseen: [String]

    init(_ examination: Examination) {
        status =
            switch examination.worst {
            case .critical: "critical"
            case .warning: "warnings"
            case .info, nil: "fine"
            }
        findings = examination.findings
        unseen = examination.unseen
        let evidence = examination.evidence
        namespaces = evidence.survey.namespaces.map { survey in
            NamespaceReport(
                name: survey.namespace.name, possiblePorts: survey.settings.possible,
                sources: survey.tcp.sources.map { SourceReport("tcp", $0) }
                    + survey.udp.sources.map { SourceReport("udp", $0) },
                destinations: evidence.pressures(survey).map(DestinationReport.init))
        }
    }
}

extension DoctorReport.SourceReport {
    init(_ name: String, _ source: TransportSurvey.Source) {
        self.init(
            protocol: name, address: source.address.description, ports: source.ports,
            sharedPorts: source.sharedPorts, sockets: source.sockets, timeWait: source.timeWait)
    }
}

extension DoctorReport.DestinationReport {
    init(_ pressure: DestinationPressure) {
        self.init(
            protocol: pressure.name.lowercased(), local: pressure.source,
            remote: pressure.remote.description, used: pressure.filling.used,
            possible: pressure.filling.possible, timeWait: pressure.destination.timeWait,
            perSecond: pressure.filling.rate, secondsUntilFull: pressure.filling.secondsUntilFull)
    }
}
