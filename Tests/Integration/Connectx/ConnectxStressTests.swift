// SPDX-License-Identifier: Apache-2.0
// Sharing source ports from userspace, contended: what the lock without the barrier
// loses, and that the library loses nothing. In short; by hand it runs for
// as long as you like: see README.md.

import Foundation
import Testing
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite(.serialized) struct ConnectxStress {
        private struct Report: Decodable {
            let successes: Int
            let overshadowed: Int
        }

        /// Lets threads and processes go for few source ports, with `others` sockets on each.
        private func contend(
            _ sandbox: Sandbox, by technique: String, among others: Int, successes: Int,
            _ more: String...
        ) throws -> Report {
            let outcome = try sandbox.command(
                Sandbox.program("tupleguard-stress"),
                [
                    "connectx", "--technique", technique, "--library", ConnectxLibrary.path,
                    "--others", "\(others)", "--successes", "\(successes)", "--netns", "--json",
                ] + more, in: sandbox.cgroup)
            try #require(outcome.status < 2, "\(outcome.output)\(outcome.errors)")
            let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
            #expect(report.successes >= successes)
            #expect((outcome.status == 1) == (report.overshadowed > 0), "\(outcome.output)")
            return report
        }

        /// The more sockets, the longer each success takes.
        private func successes(among others: Int) -> Int { others < 1000 ? 15_000 : 3_000 }

        /// It fails in some of a thousand successes, by luck of the scheduler: so in several
        /// rounds.
        @Test(arguments: [500, 3000])
        func lockWithoutBarrierFails(_ others: Int) throws {
            try Sandbox.run { sandbox in
                var overshadowed = 0
                for _ in 0..<100 where overshadowed == 0 {
                    overshadowed = try contend(
                        sandbox, by: "lock", among: others,
                        successes: successes(among: others) / 3, "--hold", "400"
                    ).overshadowed
                }
                #expect(overshadowed > 0)
            }
        }

        @Test(arguments: [0, 500, 3000])
        func lockWithBarrierHolds(_ others: Int) throws {
            try Sandbox.run { sandbox in
                let report = try contend(
                    sandbox, by: "barrier", among: others, successes: successes(among: others))
                #expect(report.overshadowed == 0)
            }
        }

        @Test(arguments: ["connectx", "discovery"], [0, 500, 3000])
        func theLibraryHolds(_ technique: String, among others: Int) throws {
            try Sandbox.run { sandbox in
                let report = try contend(
                    sandbox, by: technique, among: others, successes: successes(among: others),
                    "--ports", technique == "connectx" ? "40000-40000" : "40000-40002",
                    "--family", "mixed")
                #expect(report.overshadowed == 0)
            }
        }

        @Test(arguments: ["connectx", "discovery"], [0, 500, 3000])
        func theLibraryHoldsUnderAGuard(_ technique: String, among others: Int) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                let report = try contend(
                    sandbox, by: technique, among: others, successes: successes(among: others),
                    "--ports", "40000-40002")
                #expect(report.overshadowed == 0)
                #expect(try sandbox.counters()[.claimed] > report.successes)
            }
        }

        /// Under one guard: some use the lock and don't know of the guard, or use the library,
        /// and some just bind and connect.
        @Test(arguments: ["barrier", "connectx"], [0, 500])
        func mixedCompanyUnderAGuard(_ technique: String, among others: Int) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                let report = try contend(
                    sandbox, by: technique, among: others, successes: 15_000, "--mix", "plain")
                #expect(report.overshadowed == 0)
            }
        }

        /// Without a guard those who just bind and connect overshadow whom they please.
        @Test func mixedCompanyFailsWithoutAGuard() throws {
            try Sandbox.run { sandbox in
                let report = try contend(
                    sandbox, by: "connectx", among: 0, successes: 15_000, "--mix", "plain")
                #expect(report.overshadowed > 0)
            }
        }
    }
}
