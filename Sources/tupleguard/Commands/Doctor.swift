// SPDX-License-Identifier: Apache-2.0
// `tupleguard doctor`: what is wrong with this host's connections.

import ArgumentParser
import Glibc
import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what is wrong with this host's connections, and what to do.",
        discussion: """
            For the night on which connect() says "Cannot assign requested address". Looks at the TCP \
            and UDP sockets of every network namespace that it may enter, at descriptor limits and at \
            the guard, and says what is wrong, most urgent first: what, the figures behind it, the \
            processes, and the command or line of code that helps.

            It changes nothing, sends nothing to others and needs no root; without root it sees its own network \
            namespace and the owners of its own user's sockets, and says what it could not see.

            WHAT IT FINDS
              ports to one destination, or at one address, that run out, and when
              ports that source NAT gives out for one destination, and its table, that run out
              ranges of ports that are small, or in pieces
              ports held by TIME_WAIT, and whether tcp_tw_reuse helps
              programs that bind before they connect, and lock a port for one destination
              UDP sockets that are overshadowed, with both processes
              descriptor limits that are nearly reached
              faults of this kernel that cost ports or answers
              a guard that is missing, attached too low, short of room, or without an agent

            EXAMPLES
              tupleguard doctor                    once; counts for a second to know the rates
              tupleguard doctor --sample 10        for ten seconds, where connections come in bursts
              tupleguard doctor --watch 5          again every five seconds
              tupleguard doctor --json             for machines
              tupleguard doctor --html report.html     with pictures, to be sent or printed
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

    @Option(help: "all: every network namespace that may be entered; self: only this one.")
    var namespace = NetworkNamespace.Selection.all

    @Option(
        name: .customLong("snat-ports"),
        help: ArgumentHelp(
            "The ports that source NAT chooses from, where its rules name others.",
            valueName: "first-last"))
    var translationPorts = PortRange(range: TranslationSurvey.defaultPorts)

    @Option(
        help: ArgumentHelp(
            "The report with pictures, on a page that needs no other file; - is standard output.",
            valueName: "file"), completion: .file())
    var html: OutputFile?

    @OptionGroup(title: "Folders") var folders: FolderOptions

    static let couldNotLook = ExitCode(3)

    func validate() throws {
        if !(0...3600).contains(sample) {
            throw ValidationError("--sample \(sample): choose between 0 and 3600")
        }
        if let watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch \(watch): choose between 0.1 and 86400")
        }
        if html?.isStandardOutput == true && (json || watch != nil) {
            throw ValidationError(
                "--html - is one page on standard output: with --json or --watch name a file")
        }
    }

    func run() throws {
        while true {
            try ready { () throws(OutputFile.Refusal) in try html?.check() }
            let examination = try examine()
            try ready { () throws(OutputFile.Refusal) in
                try html?.write(DoctorPage(examination).html)
            }
            if html?.isStandardOutput == true {
                // The page is the output.
            } else if json {
                print(encodeJSON(DoctorReport(examination)))
            } else {
                if watch != nil { Terminal.clear() }
                for line in DoctorText(examination).lines { print(line) }
            }
            fflush(nil)
            guard let watch else { throw ExitCode(exitStatus(examination)) }
            sleep(seconds: watch)
        }
    }

    /// What cannot be written ends with the status of a look that was none: 1 and 2 are findings.
    private func ready(_ body: () throws(OutputFile.Refusal) -> Void) throws {
        do {
            try body()
        } catch {
            Terminal.note("Error: \(error)")
            throw Self.couldNotLook
        }
    }

    private func examine() throws -> Examination {
        do {
            var evidence = try Evidence.gather(
                namespace, sample: sample, guardState: folders.guardState,
                runFolder: folders.agentFolder)
            evidence.translationPorts = translationPorts.range
            return Examination(evidence)
        } catch {
            Terminal.note("Error: cannot look at the sockets: \(error)")
            throw Self.couldNotLook
        }
    }

    private func exitStatus(_ examination: Examination) -> Int32 {
        switch examination.worst {
        case .critical: 2
        case .warning: 1
        case .info, nil: 0
        }
    }
}

extension NetworkNamespace.Selection: ExpressibleByArgument {}

/// "1024-65535"
struct PortRange: ExpressibleByArgument {
    let range: ClosedRange<UInt16>

    init(range: ClosedRange<UInt16>) {
        self.range = range
    }

    init?(argument: String) {
        let ends = argument.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, let first = UInt16(ends[0]), let last = UInt16(ends[1]),
            0 < first, first <= last
        else { return nil }
        range = first...last
    }

    var defaultValueDescription: String { "\(range.lowerBound)-\(range.upperBound)" }
}
