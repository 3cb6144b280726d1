// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgent
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// `tupleguard overshadow`
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

    enum Family: String, CaseIterable, ExpressibleByArgument {
        case v4 = "4"
        case v6 = "6"
        /// The first socket is IPv4, the second IPv6 with v4-mapped addresses.
        case mixed
    }

    @Option(help: "4, 6, or mixed: an IPv4 socket and an IPv6 one with v4-mapped addresses.")
    var family: Family = .v4

    @Flag(help: "One JSON object.")
    var json = false

    private static let datagrams = 10

    fileprivate struct Report: Encodable {
        let local: String
        let remote: String
        let refused: Bool
        let errno: String?
        let sent: Int
        let receivedByFirst: Int
        let receivedBySecond: Int
        let overshadowed: String?
    }

    func run() throws {
        let address = IPAddress(family == .v6 ? "::1" : "127.0.0.1")!
        let firstFamily = family == .v6 ? AF_INET6 : AF_INET
        let secondFamily = family == .v4 ? AF_INET : AF_INET6
        let server = try UDPSocket(family: firstFamily, bound: Endpoint(address, 0))
        let remote = try server.localName()
        let first = try UDPSocket(family: firstFamily, bound: Endpoint(address, 0))
        let local = try first.localName()
        say("The first socket connects \(local) -> \(remote).")
        try first.connect(to: remote)
        say(
            "The second socket does the same. Both have set SO_REUSEADDR, as programs do that share ports."
        )
        let second = try UDPSocket(family: secondFamily, bound: local)
        var refusal: Errno?
        do {
            try second.connect(to: remote)
        } catch {
            refusal = error
        }
        for number in 1...Self.datagrams { try server.send("answer \(number)", to: local) }
        var received = (first: 0, second: 0)
        // Loopback delivers at once, or, on a busy machine, nearly so.
        for _ in 0..<100 where received.first + received.second < Self.datagrams {
            received.first += first.receiveAll()
            if refusal == nil { received.second += second.receiveAll() }
            if received.first + received.second < Self.datagrams { usleep(10_000) }
        }
        let report = Report(
            local: local.description, remote: remote.description, refused: refusal != nil,
            errno: refusal?.name, sent: Self.datagrams, receivedByFirst: received.first,
            receivedBySecond: received.second, overshadowed: nil)
        if json {
            print(encodeJSON(report.judged))
        } else {
            explain(report, refusal)
        }
    }

    private func say(_ text: String) {
        if !json { print(text) }
    }

    private func explain(_ report: Report, _ refusal: Errno?) {
        let answers = "The other side sent \(report.sent) answers to \(report.local):"
        if let refusal {
            print(Terminal.green("It was refused: \(refusal)."))
            print("\(answers) the first socket received \(report.receivedByFirst).")
            print(
                refusal.number == EPERM
                    ? "EPERM from connect() comes from a BPF program on this process's cgroup: a guard is attached."
                    : "A guard with --errno \(refusal.name), or another filter, is attached to this process's cgroup."
            )
            return
        }
        print(Terminal.red("It succeeded: no error, nothing in any log."))
        print(
            "\(answers) the first socket received \(report.receivedByFirst), the second \(report.receivedBySecond)."
        )
        switch report.judged.overshadowed {
        case "first":
            print("The first socket is overshadowed: it can send, and waits for answers in vain.")
        case "second":
            print(
                "The second socket is overshadowed: it can send, and waits for answers in vain. (Kernels before 6.16 let the first keep them on loopback.)"
            )
        default: print("The answers were shared out between them: neither has what it is owed.")
        }
        print(
            "A guard refuses the second connect: try `tupleguard exec -- tupleguard overshadow` as root."
        )
    }
}

extension Overshadow.Report {
    /// With the loser named: "first", "second", or "both" when each got a part.
    fileprivate var judged: Self {
        var loser: String?
        if !refused {
            loser = receivedByFirst == 0 ? "first" : receivedBySecond == 0 ? "second" : "both"
        }
        return Self(
            local: local, remote: remote, refused: refused, errno: errno, sent: sent,
            receivedByFirst: receivedByFirst, receivedBySecond: receivedBySecond,
            overshadowed: loser)
    }
}
