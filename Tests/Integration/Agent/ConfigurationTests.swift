// SPDX-License-Identifier: Apache-2.0
// The configuration file as the agent and `attach` act upon it.

import Glibc
import Testing
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Configuration {
        private let tupleguard = Sandbox.program("tupleguard")

        private func guarded(_ sandbox: Sandbox) throws -> [UInt64: Policy] {
            guard sandbox.state.exists else { return [:] }
            return Dictionary(
                uniqueKeysWithValues: try sandbox.state.attachments().map { ($0.id, $0.policy) })
        }

        @Test func agentAndAttachReadTheSameFile() throws {
            try withTemporaryFolder { folder in
                try Sandbox.run { sandbox in
                    let file = "\(folder)/tupleguard.conf"
                    let (a, b) = (try sandbox.makeChild("a"), try sandbox.makeChild("b"))
                    try makeFile(
                        file,
                        "cgroup = \(a.path)\ncgroup = \(b.path)\nmode = observe\ntable-size = 512\n"
                    )
                    #expect(try sandbox.tupleguard("attach", "--config", file).status == 0)
                    var policy = Policy()
                    policy.mode = .observe
                    #expect(try guarded(sandbox) == [a.id: policy, b.id: policy])
                    #expect(try sandbox.state.tableSize() == 512)

                    // The agent adopts them; what the command line says comes first.
                    let agent = try sandbox.start(
                        tupleguard, ["run", "--config", file, "--mode", "enforce"])
                    #expect(eventually { agent.errorsSoFar.contains("ready, guarding 2 of 2") })
                    #expect(try guarded(sandbox) == [a.id: Policy(), b.id: Policy()])
                    agent.signal(SIGTERM)
                    #expect(agent.wait().status == 0)
                }
            }
        }

        @Test func whatCannotAllBeAttachedIsNot() throws {
            try withTemporaryFolder { folder in
                try Sandbox.run { sandbox in
                    let file = "\(folder)/tupleguard.conf"
                    let (a, b) = (try sandbox.makeChild("a"), try sandbox.makeChild("b"))
                    try makeFile(file, "cgroup = \(a.path)\ncgroup = \(b.path)\ntable-size = 512\n")
                    #expect(
                        try sandbox.tupleguard("attach", "--table-size", "512", b.path).status == 0)
                    let refused = try sandbox.tupleguard("attach", "--config", file)
                    #expect(refused.status == 1)
                    #expect(refused.errors.contains("\(b.path) is guarded already"))
                    #expect(try guarded(sandbox).keys.sorted() == [b.id])
                    #expect(
                        try sandbox.tupleguard("attach", "--replace", "--config", file).status == 0)
                    #expect(try guarded(sandbox).keys.sorted() == [a.id, b.id].sorted())
                }
            }
        }

        @Test func theAgentReadsItAnewAtSIGHUP() throws {
            try withTemporaryFolder { folder in
                try Sandbox.run { sandbox in
                    let file = "\(folder)/tupleguard.conf"
                    func write(_ text: String) throws {
                        unlink(file)
                        try makeFile(file, text)
                    }
                    let (a, b) = (try sandbox.makeChild("a"), try sandbox.makeChild("b"))
                    try write("cgroup = \(a.path)\ntable-size = 512\n")
                    let manager = try PretendedServiceManager()
                    let agent = try sandbox.start(
                        tupleguard, ["run", "--config", file],
                        environment: ["NOTIFY_SOCKET": manager.path])
                    #expect(eventually { agent.errorsSoFar.contains("ready, guarding 1 of 1") })

                    // Another cgroup, and another policy for both.
                    let first = try sandbox.socket(bound: "127.0.0.1:5000", in: a)
                    #expect(first.connect("127.0.0.1:6000") == nil)
                    try write(
                        "cgroup = \(a.path)\ncgroup = \(b.path)\nerrno = EADDRINUSE\n")
                    agent.signal(SIGHUP)
                    #expect(eventually { agent.errorsSoFar.contains("reloaded, guarding 2 of 2") })
                    var policy = Policy()
                    policy.refusal = .eaddrinuse
                    #expect(try guarded(sandbox) == [a.id: policy, b.id: policy])
                    // Claims are as they were.
                    let second = try sandbox.socket(bound: "127.0.0.1:5000", in: b)
                    #expect(second.connect("127.0.0.1:6000") == "EADDRINUSE")

                    for (mistake, part) in [
                        ("cgroup = \(b.path)\nmode = no\n", "\(file):2: "),
                        ("cgroup = \(b.path)\ntable-size = 1024\n", "512"),
                        ("", "--cgroup"),
                    ] {
                        try write(mistake)
                        agent.signal(SIGHUP)
                        #expect(
                            eventually {
                                agent.errorsSoFar.split(separator: "\n").contains {
                                    $0.contains("not reloaded") && $0.contains(part)
                                }
                            })
                        #expect(
                            eventually { manager.messages.contains { $0.contains("not reloaded") } }
                        )
                        #expect(try guarded(sandbox) == [a.id: policy, b.id: policy])
                    }

                    // One is let go, the other stays.
                    try write("cgroup = \(b.path)\nerrno = EADDRINUSE\n")
                    agent.signal(SIGHUP)
                    #expect(
                        eventually { agent.errorsSoFar.contains("no longer guarding \(a.path)") })
                    #expect(try guarded(sandbox) == [b.id: policy])
                    #expect(second.connect("127.0.0.1:6000") == "EADDRINUSE")
                    agent.signal(SIGTERM)
                    #expect(agent.wait().status == 0)
                }
            }
        }

        @Test func aMistakeEndsBothBeforeAnythingIsTouched() throws {
            try withTemporaryFolder { folder in
                try Sandbox.run { sandbox in
                    let file = "\(folder)/tupleguard.conf"
                    try makeFile(file, "cgroup = \(sandbox.cgroup.path)\nmode = enforcing\n")
                    for command in [["run"], ["attach"], ["run", "--check"]] {
                        let outcome = try sandbox.command(tupleguard, command + ["--config", file])
                        #expect(outcome.status == 78)
                        #expect(outcome.errors.contains("\(file):2: "), "\(outcome.errors)")
                        #expect(outcome.errors.contains("'enforcing'"), "\(outcome.errors)")
                    }
                    #expect(!sandbox.state.exists)
                    #expect(access(sandbox.runFolder, F_OK) != 0)
                }
            }
        }
    }
}
