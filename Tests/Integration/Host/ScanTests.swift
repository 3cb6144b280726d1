// SPDX-License-Identifier: Apache-2.0
// The agent without BPF: it finds by looking, logs, counts, tells those who follow.

import Foundation
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Scans {
        private let tupleguard = Sandbox.program("tupleguard")

        private func startAgent(_ sandbox: Sandbox, _ more: String...) throws -> RunningProgram {
            let agent = try sandbox.start(
                tupleguard, ["run", "--scan", "--interval", "1"] + more)
            #expect(
                eventually { agent.errorsSoFar.contains("ready, looking") || !agent.isRunning },
                "\(agent.errorsSoFar)")
            return agent
        }

        private func collide(_ sandbox: Sandbox, port: UInt16) throws -> [TestSocket] {
            try (0..<2).map { _ in
                let socket = try sandbox.socket(bound: "127.0.0.1:\(port)")
                #expect(socket.connect("127.0.0.1:6000") == nil)
                return socket
            }
        }

        /// What `conflicts` has of this port.
        private func conflicts(_ sandbox: Sandbox, port: UInt16) throws -> [[String: Any]] {
            let report = try sandbox.tupleguard("conflicts", "--json").json
            return try #require(report["conflicts"] as? [[String: Any]]).filter {
                $0["local"] as? String == "127.0.0.1:\(port)"
            }
        }

        @Test func findsLogsCountsAndForgets() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox)
                try ending(agent) {
                    let sockets = try collide(sandbox, port: 5123)
                    let own = "scan: found 127.0.0.1:5123 -> 127.0.0.1:6000 in "
                    #expect(eventually { agent.errorsSoFar.contains(own) })
                    let line = agent.errorsSoFar.split(separator: "\n").first { $0.contains(own) }
                    #expect(line?.contains("(pid \(getpid()), uid 0)") == true)
                    #expect(line?.contains("receives, overshadowed: ") == true)

                    let found = try conflicts(sandbox, port: 5123)
                    #expect(found.count == 1)
                    #expect(found.first?["source"] as? String == "scan")
                    let receiver = found.first?["receiver"] as? [String: Any]
                    #expect(receiver?["pid"] as? Int == Int(getpid()))
                    let text = try sandbox.tupleguard("conflicts").output
                    #expect(text.contains("127.0.0.1:5123 -> 127.0.0.1:6000 (scan)"))
                    let stats = try sandbox.tupleguard("stats", "--json").json
                    let scan = try #require(stats["scan"] as? [String: Int])
                    #expect(scan["found"] ?? 0 >= 1)
                    #expect(scan["present"] ?? 0 >= 1)

                    // `shadows` knows from the agent since when.
                    let shadows = try jsonObject(
                        try sandbox.tupleguard("shadows", "--namespace", "self", "--json").output)
                    let list = shadows["shadows"] as? [[String: Any]]
                    #expect(
                        list?.first?["first_seen"] as? String
                            == found.first?["first_time"] as? String)

                    sandbox.close(sockets[0])
                    #expect(
                        eventually {
                            agent.errorsSoFar.split(separator: "\n").contains {
                                $0.contains("127.0.0.1:5123 -> 127.0.0.1:6000 in ")
                                    && $0.contains("is overshadowed no more; it was")
                            }
                        })
                    #expect(try conflicts(sandbox, port: 5123).isEmpty)
                    agent.signal(SIGTERM)
                    let outcome = agent.wait()
                    #expect(outcome.status == 0)
                    // Each once, however often it was looked at.
                    #expect(
                        outcome.errors.components(separatedBy: own).count == 2, "\(outcome.errors)")
                    #expect(outcome.errors.contains("conflicts found: "))
                    // Nothing was attached.
                    #expect(access(sandbox.state.folder, F_OK) != 0)
                }
            }
        }

        @Test func followersHearOfIt() throws {
            try Sandbox.run { sandbox in
                let agent = try startAgent(sandbox, "--log-format", "json")
                try ending(agent) {
                    let follower = try sandbox.start(
                        tupleguard, ["conflicts", "--follow", "--json"])
                    try ending(follower) {
                        var port: UInt16 = 5200
                        let isHeard = try eventually { () throws in
                            _ = try collide(sandbox, port: port)
                            port += 1
                            usleep(500_000)
                            return follower.outputSoFar.contains(#""local":"127.0.0.1:52"#)
                        }
                        #expect(isHeard)
                        let line = try #require(
                            follower.outputSoFar.split(separator: "\n").first {
                                $0.contains(#""local":"127.0.0.1:52"#)
                            })
                        let event = try jsonObject(String(line))
                        #expect(event["source"] as? String == "scan")
                        #expect(event["action"] as? String == "found")
                        #expect((event["overshadowed"] as? [Any])?.count == 1)
                    }
                    for line in agent.errorsSoFar.split(separator: "\n") {
                        _ = try jsonObject(String(line))
                    }
                }
            }
        }

        @Test func worksWithoutPrivilege() throws {
            try Sandbox.run { sandbox in
                let folder = "/tmp/tupleguard-scan-\(getpid())"
                mkdir(folder, 0o755)
                chown(folder, 65534, 65534)  // nobody's: a run folder has to be one's own
                defer { try? FileManager.default.removeItem(atPath: folder) }
                let agent = try sandbox.start(
                    tupleguard, ["run", "--scan", "--interval", "1", "--run-folder", folder],
                    asNobody: true)
                try ending(agent) {
                    _ = try collide(sandbox, port: 5300)
                    #expect(
                        eventually {
                            agent.errorsSoFar.contains(
                                "scan: found 127.0.0.1:5300 -> 127.0.0.1:6000 in this network namespace"
                            ) || !agent.isRunning
                        }, "\(agent.errorsSoFar)")
                    #expect(agent.isRunning, "\(agent.errorsSoFar)")
                    // Said once, not with every scan.
                    let blind = "processes that we may not look at"
                    #expect(eventually { agent.errorsSoFar.contains(blind) })
                    #expect(agent.errorsSoFar.components(separatedBy: blind).count == 2)
                }
            }
        }

        @Test func argumentsThatMakeNoSense() throws {
            try Sandbox.run { sandbox in
                for arguments in [
                    ["run", "--scan", "--cgroup", "x"], ["run"],
                    ["run", "--scan", "--interval", "0"], ["shadows", "--yes"],
                    ["shadows", "--watch", "0"], ["shadows", "--resolve", "--yes", "--watch", "1"],
                    ["doctor", "--sample", "-1"], ["doctor", "--namespace", "other"],
                ] {
                    let outcome = try sandbox.command(tupleguard, arguments)
                    #expect(outcome.status == 64, "\(arguments)")
                }
            }
        }
    }
}
