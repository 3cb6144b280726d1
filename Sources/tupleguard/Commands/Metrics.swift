// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardAgentClient
import TupleguardLinux
import TupleguardMetrics

/// `tupleguard metrics`
struct Metrics: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the metrics once, for Prometheus' textfile collector.",
        discussion: """
            Looks at the guard and at all TCP and UDP sockets, and prints what `run --metrics` \
            serves: refused and claimed connects, how full the table is, overshadowed sockets, and \
            the ports in use to the busiest destinations. Works without an agent, whose own \
            counters are missing then; without root it sees neither the guard nor other network \
            namespaces, and says so.

            EXAMPLES
              tupleguard metrics
              tupleguard metrics --openmetrics
              tupleguard run --cgroup system.slice --metrics 127.0.0.1:9469
            """)

    @Flag(
        name: .customLong("openmetrics"), help: "OpenMetrics 1.0 instead of the text format 0.0.4.")
    var openMetrics = false

    @Option(help: "all: every network namespace that may be entered; self: only this one.")
    var namespace = NetworkNamespace.Selection.all

    @Flag(inversion: .prefixedNo, help: "Name pods.")
    var podLabels = true

    @OptionGroup(title: "Folders") var folders: FolderOptions

    func run() throws {
        let sample = try HostSample(
            namespace, [.ports, .shadows, .translations], state: folders.guardState,
            agent: folders.askAgent(AgentSummary.read))
        if let why = sample.unseenGuard { Terminal.note("the guard is not seen: \(why)") }
        if let why = sample.survey.unseenNamespaces { Terminal.note("not seen: \(why)") }
        let format = openMetrics ? ExpositionFormat.openMetrics : .prometheusText
        print(
            format.render(sample.families(version: version, hasPodLabels: podLabels)),
            terminator: "")
    }
}
