// SPDX-License-Identifier: Apache-2.0
// What the scripts that take hours decide before they begin: which rounds, and which faults.

import Foundation
import Testing
import TupleguardTestSupport

/// Runs a script of this repository.
private func script(_ name: String, _ arguments: String...) throws -> Sandbox.Outcome {
    try script(name, arguments)
}

private func script(_ name: String, _ arguments: [String]) throws -> Sandbox.Outcome {
    let folder = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
    return try RunningProgram(
        ["/usr/bin/env", "python3", "\(folder)/scripts/\(name)"] + arguments,
        environment: ProcessInfo.processInfo.environment
    ).wait()
}

struct SoakTests {
    private struct Round: Decodable {
        let round: Int
        let control: Bool
        let oracle: [String]
        let policy: [String]?
        let table: [String]
        let disturbedBy: [String]

        var mode: String { oracle[0] }

        /// Whether a connect that has no room for its claim fails.
        var refusesWhenFull: Bool {
            policy?.contains("--strict") == true || value(of: "--when-full") == "refuse"
        }

        func value(of option: String) -> String? {
            guard let policy, let place = policy.firstIndex(of: option) else { return nil }
            return policy[place + 1]
        }
    }

    private static let plan: Result<[Round], any Error> = Result {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try script("soak", "--plan", "1000", "--seed", "7").output.split(separator: "\n").map
        {
            try decoder.decode(Round.self, from: Data($0.utf8))
        }
    }

    @Test("A round is chosen by the seed and its number, whatever was played before")
    func repeatable() throws {
        let few = try script("soak", "--plan", "20", "--seed", "7").output
        let more = try script("soak", "--plan", "40", "--seed", "7").output
        #expect(few.split(separator: "\n").count == 20)
        #expect(more.hasPrefix(few))
        #expect(try script("soak", "--plan", "20", "--seed", "8").output != few)
    }

    @Test("Every oracle has its turn, and every seventh round is a control")
    func everyOracle() throws {
        let rounds = try Self.plan.get()
        let modes: Set = [
            "race", "chaos", "reuseport", "throng", "shared", "samesocket", "hostile", "outsiders",
            "rewriters", "connectx", "lab",
        ]
        #expect(Set(rounds.filter { !$0.control }.map(\.mode)) == modes)
        #expect(rounds.allSatisfy { $0.control == ($0.round % 7 == 0) })
        #expect(rounds.filter(\.control).allSatisfy { $0.policy == nil && $0.disturbedBy.isEmpty })
        #expect(Set(rounds.flatMap(\.disturbedBy)) == ["agent", "replace", "cgroups", "memory"])
    }

    /// A violation is to be one of the guard's promises, not one that nobody has made.
    @Test("Nothing is asked of a policy that it does not promise")
    func promises() throws {
        for round in try Self.plan.get() where !round.control {
            let size = round.table.last.flatMap(Int.init) ?? 65536
            if size < 65536 || round.disturbedBy.contains("memory") {
                #expect(round.refusesWhenFull && round.mode != "race", "\(round)")
            }
            let isStrict = round.policy?.contains("--strict") == true
            switch round.mode {
            case "samesocket": #expect(isStrict, "\(round)")
            case "outsiders": #expect(round.value(of: "--outsiders") == "refuse", "\(round)")
            case "reuseport", "hostile": #expect(round.value(of: "--discover") != "off", "\(round)")
            case "chaos" where round.oracle.contains("--exclusive"):
                #expect(isStrict || round.value(of: "--discover") == "all", "\(round)")
            case "chaos" where round.oracle.contains("--unbound"):
                #expect(round.value(of: "--discover") != "off", "\(round)")
            case "connectx" where round.oracle.contains("plain"):
                #expect(round.policy != nil, "\(round)")
            default: break
            }
        }
    }
}

struct FaultTests {
    /// What `faults --list` says of a table with these lines.
    private func list(_ lines: String...) throws -> Sandbox.Outcome {
        try withTemporaryFolder { folder in
            try makeFile("\(folder)/table", lines.joined(separator: "\n"))
            return try script("faults", "--list", "--table", "\(folder)/table")
        }
    }

    /// (A copy that has faults in it fits no longer, and should not.)
    @Test(
        "The table fits the sources", .enabled(if: !#filePath.contains("/.build-faults/")))
    func theTable() throws {
        let outcome = try script("faults", "--list")
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(outcome.output.split(separator: "\n").count > 200)
    }

    @Test(
        "What nothing is tried for is refused",
        arguments: [["9999"], ["--only", "no such fault"], ["--resume", "--survivors"]])
    func nothingToTry(_ arguments: [String]) throws {
        let outcome = try script("faults", arguments)
        #expect(outcome.status != 0)
        #expect(outcome.errors.contains("faults: "), "\(outcome.errors)")
    }

    @Test("A fault is shown with its place, and with the reason why it may stay unnoticed")
    func listed() throws {
        let outcome = try list(
            "# a comment", "[bpf/outsiders.bpf.c]", "\tif (!is_outside(number)) ==> \tif (number)",
            "because it is an example", "long claim_or_share( ==> long claim_and_share(")
        #expect(outcome.status == 0, "\(outcome.errors)")
        let lines = outcome.output.split(separator: "\n")
        try #require(lines.count == 2)
        #expect(
            lines[0].contains(/^1 bpf\/outsiders.bpf.c:\d+: if \(!is_outside\(number\)\) ==> if/))
        #expect(lines[0].hasSuffix("(because it is an example)"))
        #expect(lines[1].hasPrefix("2 bpf/outsiders.bpf.c:"))
    }

    @Test(
        "One that fits no longer, or fits twice, is an error that names it",
        arguments: [
            ("[bpf/outsiders.bpf.c]\nnothing like it ==> x", "0 times"),
            ("[bpf/outsiders.bpf.c]\nreturn ALLOW; ==> return REJECT;", "not once"),
            ("[bpf/outsiders.bpf.c]\nlong claim_or_share( ==> long claim_or_share(", "nothing"),
            ("[README.md]\nApache-2.0; ==> x", "no tests are known"),
            ("[bpf/outsiders.bpf.c]\nno arrow", "line 2"),
            ("a ==> b", "line 1"),
        ])
    func misfits(_ table: String, _ complaint: String) throws {
        let outcome = try list(table)
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains(complaint), "\(outcome.errors)")
        #expect(outcome.output.isEmpty)
    }
}
