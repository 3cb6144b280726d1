// SPDX-License-Identifier: Apache-2.0
// `tupleguard shadows`: the tuples that several sockets have now.

import ArgumentParser
import Glibc
import TupleguardAgentClient
import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

struct Shadows: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List connected UDP sockets that share a 4-tuple: who receives, who does not.",
        discussion: """
            Asks the kernel for the connected UDP sockets of every network namespace that it may \
            enter. IPv4 sockets and IPv6 sockets with v4-mapped addresses share one tuple; sockets \
            bound to different devices do not; multicast and broadcast destinations are left out. \
            Needs no root to look at its own network namespace.

            The kernel does not record when two sockets came to share a tuple. What is told is when \
            they were seen first: by an agent that looks (run --scan; read as root), else by \
            this command, which sees them for longer with --watch.

            Who receives is what the kernel's own look-up says, asked on every processor. Up to \
            Linux 6.12 it prefers a socket that received on the same processor before; from 6.13 on \
            it finds the one that connected last. What comes by a device goes to the one that came \
            to the port last. Where that is not one socket for all, it is said what it depends on.

            --resolve destroys the socket that receives (SOCK_DESTROY): its owner gets ECONNABORTED \
            once, and another one receives. It says what the choice rests on, asks on the terminal \
            first, and needs CAP_NET_ADMIN. Where it is not certain which one receives it asks which \
            to destroy; with --yes it destroys none of these, and ends with 2. Of three sockets on \
            one tuple two are left, one of them overshadowed: it says so, and ends with 2. Run it again.

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

    @Flag(help: "With --resolve: do not ask; destroy only where it is certain who receives.")
    var yes = false

    @Option(help: "all: every network namespace that may be entered; self: only this one.")
    var namespace = NetworkNamespace.Selection.all

    @OptionGroup(title: "Folders") var folders: FolderOptions

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
                shadows, now: KernelClock.realTime,
                earlier: shadows.isEmpty ? [:] : firstSeenByAgent())
            let reports = ShadowReport.make(shadows, history)
            if resolve {
                return try ResolutionRun(
                    shadows: shadows, reports: reports, isJSON: json, asks: !yes
                )
                .run()
            }
            show(reports, survey)
            fflush(nil)
            guard let watch else { throw ExitCode(reports.isEmpty ? 0 : 2) }
            sleep(seconds: watch)
        }
    }

    /// When an agent without a guard saw tuples first, by the cookies of their sockets; nothing
    /// where none runs, or is not ours to ask.
    private func firstSeenByAgent() -> [Set<UInt64>: UInt64] {
        let findings = try? AgentFindings.read(from: folders.agentFolder)
        return Dictionary(
            (findings?.scan?.shadows ?? []).map { found in
                (
                    Set(found.cookies.compactMap { UInt64($0) }),
                    found.firstTime.nanosecondsSince1970
                )
            }, uniquingKeysWith: { first, _ in first })
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

/// Destroys what receives, one tuple after the other, and says what came of it. Where it is not
/// certain which one does, somebody has to choose.
private struct ResolutionRun {
    let shadows: [Shadow]
    let reports: [ShadowReport]
    let isJSON: Bool
    let asks: Bool

    func run() throws {
        var outcomes: [ResolutionReport] = []
        for (shadow, report) in zip(shadows, reports) {
            if !isJSON { for line in report.lines { print(line) } }
            if let outcome = resolve(shadow, report) { outcomes.append(outcome) }
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

    /// - Returns: nil where the answer was no.
    private func resolve(_ shadow: Shadow, _ report: ShadowReport) -> ResolutionReport? {
        let basis = shadow.judgement.basis
        if !isJSON { print("  known by      \(basis)") }
        guard let index = asks ? choose(report) : report.sides.receiver.map({ _ in 0 }) else {
            if asks { return nil }
            let why =
                "it is not certain which of them receives; without --yes you are asked which to destroy"
            if !isJSON { Terminal.note("Not resolved: \(why)") }
            return ResolutionReport(report, undecided: why, basis: basis)
        }
        let (victim, owner) = (
            shadow.judgement.contenders[index].socket, report.sides.receiving[index]
        )
        let resolution = Resolution(destroying: victim, of: shadow)
        if !isJSON { show(resolution, owner) }
        return ResolutionReport(report, resolution, of: owner, basis: basis)
    }

    /// Which of those that receive, or may, is to be destroyed; nil for none.
    private func choose(_ report: ShadowReport) -> Int? {
        if let receiver = report.sides.receiver {
            print("Destroy the socket of \(receiver.owner)? [y/N] ", terminator: "")
            fflush(nil)
            return ["y", "yes"].contains(readLine()?.lowercased()) ? 0 : nil
        }
        let contenders = report.sides.contenders
        for (index, contender) in contenders.enumerated() {
            print("  \(index + 1)  \(contender.owner)")
        }
        print("Which of them is to be destroyed? [1-\(contenders.count)/N] ", terminator: "")
        fflush(nil)
        guard let number = readLine().flatMap({ Int($0) }), (1...contenders.count).contains(number)
        else { return nil }
        return number - 1
    }

    private func show(_ resolution: Resolution, _ owner: SharedSocket) {
        if let why = resolution.error {
            Terminal.note("Error: cannot destroy it: \(why)")
            return
        }
        print("  destroyed: \(owner.owner) gets ECONNABORTED")
        if resolution.remaining > 0 {
            print("  \(amount(resolution.remaining, "socket")) still overshadowed: run it again")
        }
    }
}
