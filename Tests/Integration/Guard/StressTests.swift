// SPDX-License-Identifier: Apache-2.0
// The oracle's verdict, in short; by hand it runs for as long as you like: see README.md.

import Foundation
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite(.serialized) struct Stress {
        private let stress = Sandbox.program("tupleguard-stress")

        private func run(
            _ arguments: [String], policy: Policy = Policy(), buckets: Int? = nil
        ) throws {
            try Sandbox.run(buckets: buckets) { sandbox in
                try sandbox.attach(policy, tableSize: 65536)
                let outcome = try sandbox.command(
                    stress, arguments + ["--netns"], in: sandbox.cgroup)
                #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
                #expect(try sandbox.counters()[.claimed] > 0)
                // All sockets are closed: nothing of this cgroup may be left in the table.
                let left = try sandbox.state.claims().filter {
                    $0.command == "tupleguard-stre" && kill(Int32($0.pid), 0) != 0
                }
                #expect(left.isEmpty)
            }
        }

        @Test(arguments: [2, 4, 8])
        func oneWinnerInEachRound(_ threads: Int) throws {
            try run(["race", "--threads", "\(threads)", "--rounds", "30000", "--family", "mixed"])
        }

        @Test func theRaceIsLostWithoutAGuard() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.command(
                    stress, ["race", "--threads", "4", "--rounds", "2000", "--netns"],
                    in: sandbox.cgroup)
                #expect(outcome.status == 1, "\(outcome.output)\(outcome.errors)")
            }
        }

        @Test(arguments: [Policy.LookUp.off, .on])
        func chaos(_ lookUp: Policy.LookUp) throws {
            var policy = Policy()
            policy.lookUp = lookUp
            try run(
                ["chaos", "--operations", "400000", "--threads", "4", "--processes", "2"],
                policy: policy)
        }

        /// Sockets without a port meet all others on eight ports. Where the guard chooses for all,
        /// some of them do not share; left to the kernel, those have no claim.
        @Test(arguments: [Policy.Discover.reuseaddr, .all])
        func chaosWithDiscovery(_ discover: Policy.Discover) throws {
            var policy = Policy()
            policy.discover = discover
            try run(
                [
                    "chaos", "--unbound", "--operations", "200000", "--threads", "4",
                    "--processes", "2",
                ] + (discover == .all ? ["--exclusive"] : []),
                policy: policy)
            try run(
                ["shared", "--unbound", "--rounds", "10000", "--threads", "4"], policy: policy)
        }

        @Test func chaosBreaksThingsWithoutDiscovery() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.discover = .off
                try sandbox.attach(policy, tableSize: 65536)
                let outcome = try sandbox.command(
                    stress,
                    [
                        "chaos", "--unbound", "--operations", "100000", "--threads", "4",
                        "--processes", "2", "--netns",
                    ],
                    in: sandbox.cgroup)
                #expect(outcome.status == 1, "\(outcome.output)\(outcome.errors)")
            }
        }

        @Test func chaosBreaksThingsWithoutAGuard() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.command(
                    stress,
                    [
                        "chaos", "--operations", "200000", "--threads", "4", "--processes", "2",
                        "--netns",
                    ],
                    in: sandbox.cgroup)
                #expect(outcome.status == 1, "\(outcome.output)\(outcome.errors)")
            }
        }

        /// Where nearly every claim overflows into the hash maps.
        @Test(arguments: [8, 16], Policy.Discover.allCases.filter { $0 != .off })
        func fewBuckets(_ buckets: Int, _ discover: Policy.Discover) throws {
            var policy = Policy()
            policy.discover = discover
            try run(
                ["race", "--threads", "4", "--rounds", "5000", "--family", "mixed"],
                policy: policy, buckets: buckets)
            try run(
                ["chaos", "--unbound", "--operations", "100000", "--processes", "2"],
                policy: policy, buckets: buckets)
            try run(
                ["shared", "--unbound", "--rounds", "2000", "--threads", "4"], policy: policy,
                buckets: buckets)
        }

        @Test func threadsThatShareSockets() throws {
            try run(["shared", "--rounds", "20000", "--threads", "4"])
        }

        /// With one thread all sockets are in sight, so each refusal must have a reason in them.
        ///
        /// The oracle sees a socket's claim only through its own record of what that socket went
        /// for; in one run of many it cannot name the reason for a handful of ten thousand.
        @Test func refusalsHaveAHolder() throws {
            struct Report: Decodable {
                let refused: Int
                let reasonsOfRefusals: [String: Int]
                let violations: Int
            }
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                let outcome = try sandbox.command(
                    stress,
                    [
                        "chaos", "--operations", "300000", "--threads", "1", "--processes", "1",
                        "--netns", "--json",
                    ], in: sandbox.cgroup)
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                let report = try decoder.decode(Report.self, from: Data(outcome.output.utf8))
                #expect(report.violations == 0)
                #expect(report.refused > 1000)
                let unexplained = try #require(report.reasonsOfRefusals["none"])
                #expect(unexplained * 200 <= report.refused, "\(outcome.errors)")
            }
        }
    }
}
