// SPDX-License-Identifier: Apache-2.0
// The oracles of what careless and hostile programs do: each in short, with and without a guard.
//
// They run for as long as you like with TUPLEGUARD_ORACLE_SECONDS, and with
// TUPLEGUARD_ORACLE_TALLY=FILE each adds a line of what it counted to that file.

import Foundation
import Glibc
import Testing
import TupleguardKernel
import TupleguardLinux
import TupleguardTestSupport

extension IntegrationTests {
    @Suite(.serialized) struct Oracles {
        private static let environment = ProcessInfo.processInfo.environment
        private static let seconds = environment["TUPLEGUARD_ORACLE_SECONDS"] ?? "2"

        /// What every mode reports.
        private struct Report: Decodable {
            struct Side: Decodable {
                let connected: Int
            }
            let connected: Int?
            let inside: Side?
            let violations: Int
            /// Connects that were kept from the processor for so long that nothing is promised.
            let stalled: Int?

            var allConnected: Int { connected ?? inside?.connected ?? 0 }
        }

        /// Runs a mode in the sandbox's guarded cgroup, or in another one, again and again until it
        /// has come to connect so often: does it find violations?
        private func judge(
            _ mode: String, _ arguments: [String] = [], in sandbox: Sandbox,
            cgroup: Cgroup? = nil, title: String, atLeast connects: Int = 1000,
            finding: Bool = false
        ) throws {
            let arguments =
                [mode, "--seconds", Self.seconds, "--netns", "--json"] + arguments
            var (connected, violations, said) = (0, 0, "")
            for _ in 0..<100 where connected < connects || finding && violations == 0 {
                let outcome = try sandbox.command(
                    Sandbox.program("tupleguard-stress"), arguments, in: cgroup ?? sandbox.cgroup)
                said = outcome.output + outcome.errors
                #expect(outcome.status < 2, "\(said)")
                let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
                try note("\(mode)\t\(title)\t\(outcome.output)")
                if !finding, report.violations > 0, report.stalled ?? 0 > 0 { continue }
                connected += report.allConnected
                violations += report.violations
                if violations > 0 && !finding { break }
            }
            #expect((violations > 0) == finding, "\(title): \(said)")
            #expect(connected >= connects || violations > 0, "\(said)")
        }

        private func note(_ line: String) throws {
            guard let path = Self.environment["TUPLEGUARD_ORACLE_TALLY"] else { return }
            let file = try #require(fopen(path, "a"))
            fputs(line.hasSuffix("\n") ? line : line + "\n", file)
            fclose(file)
        }

        /// Nothing is found with the guard, though a good deal was tried.
        private func expectNothing(
            _ mode: String, _ arguments: [String] = [], policy: Policy = Policy(), buckets: Int?,
            atLeast connects: Int = 1000
        ) throws {
            try Sandbox.run(buckets: buckets) { sandbox in
                try sandbox.attach(policy, tableSize: 65536)
                try judge(
                    mode, arguments, in: sandbox,
                    title: "\(buckets.map(String.init) ?? "many") buckets", atLeast: connects)
            }
        }

        // MARK: - Without a guard

        /// An oracle that finds nothing here would find nothing anywhere.
        @Test(arguments: [
            "reuseport", "throng", "samesocket", "hostile", "outsiders", "rewriters", "budget",
        ])
        func findsViolationsWithoutAGuard(_ mode: String) throws {
            try Sandbox.run { sandbox in
                let arguments =
                    switch mode {
                    case "outsiders": ["--outside", sandbox.outside.folder]
                    case "rewriters": ["--rewriter", sandbox.cgroup.folder]
                    case "budget": ["--limit", "5"]
                    default: [String]()
                    }
                try judge(
                    mode, arguments, in: sandbox, title: "without a guard", atLeast: 2,
                    finding: true)
            }
        }

        // MARK: - With one

        @Test(arguments: [nil, 16])
        func reuseport(_ buckets: Int?) throws {
            try expectNothing("reuseport", buckets: buckets)
        }

        @Test(arguments: [nil, 16])
        func throng(_ buckets: Int?) throws {
            try expectNothing("throng", buckets: buckets)
        }

        /// Whatever form a tuple is asked for in, the victim keeps it, also from a connect that was
        /// allowed before it came and is kept waiting until it is there.
        @Test(arguments: [nil, 16])
        func theVictimReceives(_ buckets: Int?) throws {
            try expectNothing(
                "hostile", ["--attacks", "again,wildcard,mapped,device,alias,range,group,stall"],
                buckets: buckets, atLeast: 2)
        }

        /// Nor does it help to change the socket between the hook and the connect, where nothing is
        /// taken on trust; nor to wait for a victim that begins to share its port late.
        @Test(arguments: [nil, 16])
        func theVictimReceivesUnderAStrictGuard(_ buckets: Int?) throws {
            try expectNothing(
                "hostile", ["--attacks", "late,again,range,group,bind,share,lose,stall"],
                policy: strict,
                buckets: buckets, atLeast: 2)
        }

        @Test(arguments: [nil, 16])
        func samesocketUnderAStrictGuard(_ buckets: Int?) throws {
            try expectNothing("samesocket", policy: strict, buckets: buckets)
        }

        @Test func reuseportUnderAStrictGuard() throws {
            try expectNothing("reuseport", policy: strict, buckets: nil)
        }

        private var strict: Policy {
            var policy = Policy()
            policy.isStrict = true
            return policy
        }

        /// Outsiders may share a tuple, of which only one has the claim, and an insider gets none
        /// of theirs, whoever of them comes and goes.
        @Test(arguments: [nil, 16])
        func outsidersThatAreRefused(_ buckets: Int?) throws {
            var policy = Policy()
            policy.outsiders = .refuse
            try Sandbox.run(buckets: buckets) { sandbox in
                try sandbox.attach(policy, tableSize: 65536)
                for (processes, threads) in [("2", "1"), ("4", "2")] {
                    try judge(
                        "outsiders",
                        [
                            "--outside", sandbox.outside.folder, "--processes", processes,
                            "--threads", threads,
                        ], in: sandbox, title: "outsiders refused", atLeast: 100)
                }
            }
        }

        /// Never more connections than the budget has, and no refusal while it has some left.
        @Test(arguments: [1, 5, 60])
        func aBudgetOfConnections(_ limit: Int) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(budget(limit), tableSize: 65536)
                try judge(
                    "budget", ["--limit", "\(limit)", "--errno", "EAGAIN"], in: sandbox,
                    title: "a budget of \(limit)")
            }
        }

        /// What the guard above refuses is no connection below.
        @Test func aBudgetAboveAnother() throws {
            try Sandbox.run { sandbox in
                let child = try sandbox.makeChild("child")
                try sandbox.attach(budget(20), tableSize: 65536)
                try sandbox.attach(budget(200), to: child, tableSize: 65536)
                try judge(
                    "budget", ["--limit", "20", "--errno", "EAGAIN"], in: sandbox, cgroup: child,
                    title: "a budget above another")
            }
        }

        /// The errno is one that nothing else gives there.
        private func budget(_ limit: Int) -> Policy {
            var policy = Policy()
            policy.maxConnections = limit
            policy.whenExhausted = .eagain
            return policy
        }

        /// A load balancer of a cgroup below is seen through: its program runs before the guard's.
        @Test(arguments: [nil, 16])
        func aRewriterBelow(_ buckets: Int?) throws {
            try Sandbox.run(buckets: buckets) { sandbox in
                let child = try sandbox.makeChild("rewritten")
                try sandbox.attach(tableSize: 65536)
                try judge(
                    "rewriters", ["--rewriter", child.folder], in: sandbox, cgroup: child,
                    title: "a rewriter below")
            }
        }

        /// As is one of the same cgroup that was attached before the guard.
        @Test(arguments: [nil, 16])
        func aRewriterBefore(_ buckets: Int?) throws {
            try Sandbox.run(buckets: buckets) { sandbox in
                let rewriter = try sandbox.start(
                    Sandbox.program("tupleguard-stress"),
                    ["rewriters", "--rewriter", sandbox.cgroup.folder, "--idle"],
                    in: sandbox.outside)
                try ending(rewriter) {
                    #expect(eventually { rewriter.outputSoFar.contains("attached") })
                    try sandbox.attach(tableSize: 65536)
                    try judge("rewriters", in: sandbox, title: "a rewriter before")
                }
            }
        }
    }
}
