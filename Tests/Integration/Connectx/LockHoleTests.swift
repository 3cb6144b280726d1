// SPDX-License-Identifier: Apache-2.0
// The program of the article on the published lock: it shows the hole, and the barrier closes it.

import Foundation
import Testing
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct LockHoleTests {
        private static let program = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
            .appending(path: "Sources/CConnectx/examples/lock-hole.c").path

        /// "12 of 4711 overshadowed": the two numbers.
        private func run(_ sandbox: Sandbox, _ path: String, _ arguments: String...) throws
            -> (overshadowed: Int, successes: Int)
        {
            let outcome = try sandbox.command(path, arguments)
            let words = outcome.output.split(separator: " ")
            try #require(outcome.status == 0 && words.count == 4, "\(outcome)")
            return (try #require(Int(words[0])), try #require(Int(words[2])))
        }

        @Test func theLockIsLostAndTheBarrierHolds() throws {
            try Sandbox.run { sandbox in
                try withTemporaryFolder { folder in
                    let path = folder + "/lock-hole"
                    let build = try sandbox.command(
                        "/bin/sh",
                        [
                            "-c",
                            "exec clang -O2 -Wall -Wextra -Werror -pthread '\(Self.program)' -o '\(path)'",
                        ])
                    try #require(build.status == 0, "\(build.errors)")
                    let barred = try run(sandbox, path, "500", "3000", "barrier")
                    #expect(barred.overshadowed == 0)
                    #expect(barred.successes >= 3000)
                    // The race is there to be lost, but when depends on the processors.
                    var overshadowed = 0
                    for _ in 0..<100 where overshadowed == 0 {
                        overshadowed += try run(sandbox, path, "500", "1000").overshadowed
                    }
                    #expect(overshadowed > 0)
                }
            }
        }
    }
}
