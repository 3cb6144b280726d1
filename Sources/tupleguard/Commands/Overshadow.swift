// SPDX-License-Identifier: Apache-2.0
// `tupleguard overshadow`: the problem, shown.

import ArgumentParser
import Glibc
import TupleguardLab
import TupleguardRecords
import TupleguardSockets

struct Overshadow: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the problem: two sockets on one 4-tuple, and which of them receives.",
        discussion: """
            Connects two sockets from one source to one destination on the loopback interface, \
            and counts who gets the answers. In a guarded cgroup the second connect is refused. \
            Needs no privilege and changes nothing.

            EXAMPLES
              tupleguard overshadow
              tupleguard exec -- tupleguard overshadow
              tupleguard overshadow --family 6
            """)

    @Option(help: "4, 6, or mixed: an IPv4 socket and an IPv6 one with v4-mapped addresses.")
    var family = Overshadowing.Families.v4

    @Flag(help: "One JSON object.")
    var json = false

    func run() throws {
        let outcome = try Overshadowing(family) { tuple in
            say("The first socket connects \(tuple.local) -> \(tuple.remote).")
            say(
                "The second socket does the same. Both have set SO_REUSEADDR, as programs do that share ports."
            )
        }
        if json {
            print(encodeJSON(outcome))
        } else {
            explain(outcome)
        }
    }

    private func say(_ text: String) {
        if !json { print(text) }
    }

    private func explain(_ outcome: Overshadowing) {
        let answers = "The other side sent \(outcome.sent) answers to \(outcome.tuple.local):"
        if let refusal = outcome.refusal {
            print(Terminal.green("It was refused: \(refusal)."))
            print("\(answers) the first socket received \(outcome.receivedByFirst).")
            print(
                refusal.number == EPERM
                    ? "EPERM from connect() comes from a BPF program on this process's cgroup: a guard is attached."
                    : "A guard with --errno \(refusal.name), or another filter, is attached to this process's cgroup."
            )
            return
        }
        print(Terminal.red("It succeeded: no error, nothing in any log."))
        print(
            "\(answers) the first socket received \(outcome.receivedByFirst), the second \(outcome.receivedBySecond)."
        )
        switch outcome.loser {
        case "first":
            print("The first socket is overshadowed: it can send, and waits for answers in vain.")
        case "second":
            print(
                "The second socket is overshadowed: it can send, and waits for answers in vain. (Kernels before 6.13 let the first keep them on loopback.)"
            )
        default: print("The answers were shared out between them: neither has what it is owed.")
        }
        print(
            "A guard refuses the second connect: try `tupleguard exec -- tupleguard overshadow` as root."
        )
    }
}

extension Overshadowing.Families: ExpressibleByArgument {}
