// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgent
import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// `tupleguard shadows`
struct Shadows: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List connected UDP sockets that share a 4-tuple: who receives, who does not.",
        discussion: """
            Asks the kernel for the connected UDP sockets of every network namespace that it may \
            enter. IPv4 sockets and IPv6 sockets with v4-mapped addresses share one tuple; sockets \
            bound to different devices do not; multicast and broadcast destinations are left out. \
            Needs no root to look at its own network namespace.

            The kernel does not record when two sockets came to share a tuple. What is told is when \
            they were seen first: by an agent that looks (run --userspace; read as root), else by \
            this command, which sees them for longer with --watch.

            --resolve destroys the socket that receives (SOCK_DESTROY), the only one of them that \
            the kernel reaches: its owner gets ECONNABORTED once, and the other receives again. From \
            Linux 6.16 on that is the one that connected last, the newcomer; before that it may be an \
            older one. It asks on the terminal first, and needs CAP_NET_ADMIN. Of three sockets on one \
            tuple two are left, one of them overshadowed: it says so, and ends with 2. Run it again.

            EXAMPLES
              tupleguard shadows
              tupleguard shadows --watch 2
              tupleguard shadows --json
              sudo tupleguard shadows --resolve
              sudo tupleguard shadows --resolve --yes

            EXIT STATUS
              0   there are none, or none any more
              1   it failed; the message says why
              2   there are some
              64  the arguments make no sense
            """)

    @Flag(help: "One JSON object; with --watch one for each line.")
    var json = false

    @Option(help: ArgumentHelp("Look again after so many seconds.", valueName: "seconds"))
    var watch: Double?

    @Flag(help: "Destroy the sockets that receive, so that those they overshadow receive again.")
    var resolve = false

    @Flag(help: "With --resolve: do not ask.")
    var yes = false

    @Option(help: "all: every network namespace that may be entered; self: the own one.")
    var namespace = NetworkNamespace.Selection.all

    @OptionGroup(title: "Places") var places: Places

    func validate() throws {
        if let watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch \(watch): choose between 0.1 and 86400")
        }
        if yes && !resolve { throw ValidationError("--yes goes with --resolve") }
        if resolve && watch != nil { throw ValidationError("--resolve has no --watch") }
        if resolve && !yes && (json || isatty(STDIN_FILENO) != 1) {
            throw ValidationError("--resolve asks on the terminal, and there is none: give --yes")
        }
    }

    func run() throws {
        var history = ShadowHistory()
        while true {
            let survey = try Survey(namespace, .shadows)
            let shadows = survey.shadows
            history.update(
                shadows, now: KernelClock.realTime, agent: shadows.isEmpty ? [] : agentSaw()
            )
            let reports = ShadowReport.make(shadows, history)
            if resolve {
                return try Resolution(shadows: shadows, reports: reports, isJSON: json, asks: !yes)
                    .run()
            }
            show(reports, survey)
            fflush(nil)
            guard let watch else { throw ExitCode(reports.isEmpty ? 0 : 2) }
            sleep(seconds: watch)
        }
    }

    /// What an agent without a guard has found; nothing where none runs, or is not ours to ask.
    private func agentSaw() -> [ScanEventReport] {
        (try? UserspaceSummary.read(from: RunFolder(path: places.runFolder)))?.scan?.shadows ?? []
    }

    private struct Report: Encodable {
        let shadows: [ShadowReport]
        let unseen: [String]
    }

    private func show(_ reports: [ShadowReport], _ survey: Survey) {
        if json {
            let unseen = [survey.unseenNamespaces].compactMap(\.self)
            print(encodeJSON(Report(shadows: reports, unseen: unseen)))
            return
        }
        if watch != nil { Terminal.clear() }
        for line in reports.flatMap(\.lines) { print(line) }
        if let unseen = survey.unseenNamespaces { print("not seen: \(unseen)") }
        if reports.isEmpty { print("no UDP socket is overshadowed") }
    }
}

/// When each of the tuples with several sockets was seen first, by this process or the agent.
struct ShadowHistory {
    private var firstSeen: [Set<UInt64>: UInt64] = [:]

    /// - Parameters:
    ///   - now: nanoseconds since 1970.
    ///   - agent: what the agent has found.
    mutating func update(_ shadows: [Shadow], now: UInt64, agent: [ScanEventReport] = []) {
        let earlier = Dictionary(
            agent.map { ($0.cookies, nanoseconds(of: $0.firstTime)) },
            uniquingKeysWith: { a, _ in a })
        var next: [Set<UInt64>: UInt64] = [:]
        for shadow in shadows {
            let key = Self.key(shadow)
            let seen = firstSeen[key] ?? now
            next[key] = min(seen, (earlier[Set(key.map { String($0) })] ?? nil) ?? seen)
        }
        firstSeen = next
    }

    func firstSeen(_ shadow: Shadow) -> UInt64? { firstSeen[Self.key(shadow)] }

    /// Cookies are unique for as long as the machine runs, and these two sockets stay these two.
    private static func key(_ shadow: Shadow) -> Set<UInt64> { Set(shadow.members.map(\.cookie)) }
}

/// A tuple with several sockets, as it is shown.
struct ShadowReport: Encodable {
    struct Socket: Encodable {
        let cookie: String
        let uid: UInt32
        let cgroup: String?
        /// Empty where they may not be seen, or where no process has it open.
        let processes: [ProcessIdentity]

        var description: String {
            guard let first = processes.first else {
                return "a process that cannot be seen (uid \(uid))"
            }
            let more = processes.count > 1 ? " and \(processes.count - 1) more" : ""
            let place = cgroup.map { printable(" in \($0)") } ?? ""
            return "\(first.description)\(more)\(place)"
        }
    }

    let local: String
    let remote: String
    let networkNamespaceName: String
    let interface: UInt32
    let firstSeen: String
    let receiver: Socket
    let overshadowed: [Socket]

    static func make(_ shadows: [Shadow], _ history: ShadowHistory) -> [ShadowReport] {
        let owners = SocketOwners(of: shadows.flatMap(\.members).map(\.inode))
        let names = CgroupNames()
        func socket(_ record: SocketRecord) -> Socket {
            Socket(
                cookie: String(record.cookie), uid: record.uid,
                cgroup: names.path(of: record.cgroup),
                processes: owners.processes(of: record.inode).compactMap {
                    ProcessIdentity(pid: $0)
                })
        }
        return shadows.map { shadow in
            ShadowReport(
                local: shadow.tuple.local.description, remote: shadow.tuple.remote.description,
                networkNamespaceName: shadow.namespace.name, interface: shadow.interface,
                firstSeen: timestamp(history.firstSeen(shadow) ?? 0),
                receiver: socket(shadow.receiver), overshadowed: shadow.overshadowed.map(socket))
        }
    }

    var lines: [String] {
        let place =
            networkNamespaceName == NetworkNamespace.ownName ? "" : "  in \(networkNamespaceName)"
        return ["\(Terminal.bold("\(local) -> \(remote)"))\(place)"]
            + ["  receives      \(receiver.description)"]
            + overshadowed.map { "  overshadowed  \($0.description)" }
            + ["  seen since    \(firstSeen), and perhaps there for longer"]
    }
}

/// Destroying what receives, one tuple after the other.
private struct Resolution {
    let shadows: [Shadow]
    let reports: [ShadowReport]
    let isJSON: Bool
    let asks: Bool

    private struct Outcome: Encodable {
        let local: String
        let remote: String
        let destroyed: ShadowReport.Socket?
        let error: String?
        /// Sockets that are overshadowed still, by one that was so itself.
        let remaining: Int
    }

    func run() throws {
        var outcomes: [Outcome] = []
        for (shadow, report) in zip(shadows, reports) {
            if !isJSON { for line in report.lines { print(line) } }
            guard !asks || confirms(report) else { continue }
            outcomes.append(destroy(shadow, report))
        }
        if isJSON {
            print(encodeJSON(["resolved": outcomes]))
        } else if shadows.isEmpty {
            print("no UDP socket is overshadowed")
        }
        if outcomes.contains(where: { $0.error != nil }) { throw ExitCode.failure }
        let isOver = outcomes.allSatisfy { $0.remaining == 0 }
        if outcomes.count < shadows.count || !isOver { throw ExitCode(2) }
    }

    private func confirms(_ report: ShadowReport) -> Bool {
        print("Destroy the socket of \(report.receiver.description)? [y/N] ", terminator: "")
        fflush(nil)
        return ["y", "yes"].contains(readLine()?.lowercased())
    }

    private func destroy(_ shadow: Shadow, _ report: ShadowReport) -> Outcome {
        do {
            try shadow.destroyReceiver()
            if !isJSON {
                print("  destroyed: \(report.receiver.description) gets ECONNABORTED")
                let remaining = report.overshadowed.count - 1
                if remaining > 0 {
                    print("  \(amount(remaining, "socket")) still overshadowed: run it again")
                }
            }
            return outcome(report, destroyed: true, error: nil)
        } catch {
            let why = Self.explain(error)
            if !isJSON { Terminal.note("Error: cannot destroy it: \(why)") }
            return outcome(report, destroyed: false, error: why)
        }
    }

    private func outcome(_ report: ShadowReport, destroyed: Bool, error: String?) -> Outcome {
        Outcome(
            local: report.local, remote: report.remote,
            destroyed: destroyed ? report.receiver : nil, error: error,
            remaining: report.overshadowed.count - (destroyed ? 1 : 0))
    }

    private static func explain(_ error: any Error) -> String {
        switch (error as? Errno)?.number {
        case EPERM, EACCES: "\(error): it needs CAP_NET_ADMIN; run it as root (sudo)"
        case ENOENT: "\(error): the socket is gone, or receives no more"
        case EOPNOTSUPP:
            "\(error): this kernel was built without CONFIG_INET_DIAG_DESTROY"
        default: "\(error)"
        }
    }
}
