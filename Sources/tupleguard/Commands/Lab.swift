// SPDX-License-Identifier: Apache-2.0
// `tupleguard lab`: every known technique, measured on this kernel.

import ArgumentParser
import Glibc
import TupleguardLab
import TupleguardLinux
import TupleguardRecords

struct Lab: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Measure every known technique for outgoing connections on this kernel.",
        discussion: """
            Each row has a network namespace of its own, with 20 ports and 5 destinations, so \
            nothing of this host is touched. Measured are how many connections fit, the errno when \
            they do not, whether one source address and port can serve several destinations, and \
            how many sockets are overshadowed when threads go for one 4-tuple at a time.

            Takes about a minute. Needs no privilege where user namespaces are allowed; three rows \
            need BPF, and so root, and are left out without (the output says so).

            EXAMPLES
              tupleguard lab
              tupleguard lab --only udp-reuse-bind,udp-connectx
              tupleguard lab --only tcp --json
              tupleguard lab --thorough --markdown
            """)

    @Option(
        help: ArgumentHelp(
            "Only these rows, or groups (tcp, udp, unix, retry) of them.",
            valueName: "name,name…"))
    var only: String?

    @Flag(help: "Measure for longer: about ten minutes.")
    var thorough = false

    @Option(
        help: ArgumentHelp(
            "How long threads go for one 4-tuple, for each technique (2; with --thorough 25).",
            valueName: "seconds"))
    var contend: Double?

    @Flag(help: "One JSON object.")
    var json = false

    @Flag(help: "Tables in Markdown.")
    var markdown = false

    /// The rows that are asked for.
    private func rows() throws -> [Row] {
        guard let only else { return Row.all }
        let names = only.split(separator: ",").map(String.init)
        for name in names where !Row.all.contains(where: { $0.isMeant(by: name) }) {
            let known = Row.all.map(\.name).joined(separator: ", ")
            throw ValidationError(
                "--only \(printable(name)): there is no such row; there are \(known)")
        }
        return Row.all.filter { row in names.contains(where: row.isMeant(by:)) }
    }

    func validate() throws {
        if let contend, !(0.01...3600).contains(contend) {
            throw ValidationError("--contend \(contend): choose between 0.01 and 3600 seconds")
        }
        if json && markdown { throw ValidationError("choose --json or --markdown") }
        if try rows().isEmpty { throw ValidationError("--only: name at least one row") }
    }

    private var effort: Effort {
        var effort = thorough ? Effort.thorough : .normal
        if let contend { effort.contention = .seconds(contend) }
        return effort
    }

    /// Ctrl-C, kill and a terminal that goes are to end the lab, even if it was started by a thread
    /// that has them blocked, as worker threads do.
    private static func unblockSignals() {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, signal) }
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    func run() throws {
        Self.unblockSignals()
        let rows = try rows()
        var progress = LabProgress(rows: rows.count)
        let report = try Laboratory.measure(
            rows, effort, keeper: [LabKeeperCommand.configuration.commandName!, "\(getpid())"]
        ) { progress.show($0.name) }
        progress.end()
        print(
            json ? encodeJSON(report) : markdown ? LabText(report).markdown : LabText(report).text)
    }
}

extension Row {
    fileprivate func isMeant(by name: String) -> Bool { name == self.name || name == group }
}

/// Which row is being measured, in a line of the terminal.
private struct LabProgress {
    private let rows: Int
    private let isShown = isatty(STDERR_FILENO) == 1
    private var begun = 0

    init(rows: Int) {
        self.rows = rows
    }

    mutating func show(_ name: String) {
        begun += 1
        write("\r\u{1B}[K\(begun)/\(rows)  \(name)")
    }

    func end() {
        write("\r\u{1B}[K")
    }

    private func write(_ text: String) {
        if isShown { _ = text.withCString { Glibc.write(STDERR_FILENO, $0, strlen($0)) } }
    }
}
