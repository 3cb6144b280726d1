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
            how many sockets are overshadowed when threads go for one 4-tuple at a time; then what \
            the last ports of a range cost, and a connect() beside many sockets.

            Takes about a minute. Needs no privilege where user namespaces are allowed; six rows \
            need BPF, and so root, and are left out without (the output says so).

            EXAMPLES
              tupleguard lab
              tupleguard lab --only udp-reuse-bind,udp-connectx
              tupleguard lab --only tcp --json
              tupleguard lab --thorough --markdown
              tupleguard lab --html lab.html
              tupleguard lab --svg cost > cost.svg
            """)

    @Option(
        help: ArgumentHelp(
            "Only these rows, or groups (tcp, udp, unix, retry, fill, cost) of them.",
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

    @Option(
        help: ArgumentHelp(
            "Pictures, on a page that needs no other file; - is standard output.",
            valueName: "file"), completion: .file())
    var html: OutputFile?

    @Option(help: "One picture as SVG, on standard output; measures only what is on it.")
    var svg: LabPicture?

    /// The rows that are asked for.
    private func rows() throws -> [Row] {
        guard let only else {
            guard let svg else { return Row.all }
            return Row.all.filter(svg.shows)
        }
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
        if svg != nil && (json || markdown || html != nil) {
            throw ValidationError("--svg is one picture: leave --json, --markdown and --html out")
        }
        if html?.isStandardOutput == true && (json || markdown) {
            throw ValidationError(
                "--html - is standard output, as --json and --markdown are: name a file")
        }
        let rows = try rows()
        if rows.isEmpty { throw ValidationError("--only: name at least one row") }
        if let svg, !rows.contains(where: svg.shows) {
            let shown = Row.all.filter(svg.shows).map(\.name).joined(separator: ", ")
            throw ValidationError(
                "--svg \(svg.rawValue): --only names no row of it; name \(svg.groups.joined(separator: " or ")), or some of \(shown)"
            )
        }
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
        try html?.check()
        var progress = LabProgress(rows.map { $0.expectedSeconds(effort) })
        let report = try Laboratory.measure(
            rows, effort, keeper: [LabKeeperCommand.configuration.commandName!, "\(getpid())"]
        ) { progress.show($0.name) }
        progress.end()
        try write(report)
    }

    private func write(_ report: LabReport) throws {
        if let svg {
            guard let figure = svg.figure(report) else {
                throw NothingToShow(picture: svg, leftOut: report.leftOut)
            }
            return print(figure.svg, terminator: "")
        }
        try html?.write(report.page.html)
        if html?.isStandardOutput == true { return }
        print(
            json ? encodeJSON(report) : markdown ? LabText(report).markdown : LabText(report).text)
    }
}

/// A picture of which nothing could be measured: no mistake in the arguments.
private struct NothingToShow: Error, CustomStringConvertible {
    let picture: LabPicture
    let leftOut: [LeftOut]

    var description: String {
        let reasons = leftOut.map { "\($0.name): \($0.why)" }
        let why =
            reasons.isEmpty
            ? "none of the rows has numbers for it; leave --only out"
            : reasons.joined(separator: "; ")
        return "--svg \(picture.rawValue): nothing of it was measured: \(why)"
    }
}

extension LabPicture {
    /// Whether it is among the rows whose numbers are on it.
    fileprivate func shows(_ row: Row) -> Bool { groups.contains(row.group) }
}

extension Row {
    fileprivate func isMeant(by name: String) -> Bool { name == self.name || name == group }
}

/// Which row is being measured, and how long the others will take, in a line of the terminal.
private struct LabProgress {
    private var forecast: Forecast
    private let isShown = isatty(STDERR_FILENO) == 1

    init(_ expectedSeconds: [Double]) {
        forecast = Forecast(expectedSeconds)
    }

    mutating func show(_ name: String) {
        forecast.beginNext(at: .now)
        write("\r\u{1B}[K\(forecast.begun)/\(forecast.count)  \(name)  \(forecast.left(at: .now))")
    }

    func end() {
        write("\r\u{1B}[K")
    }

    private func write(_ text: String) {
        if isShown { _ = text.withCString { Glibc.write(STDERR_FILENO, $0, strlen($0)) } }
    }
}
