// SPDX-License-Identifier: Apache-2.0
// What the suites of the doctor have in common: a run of it, and what it says, by name.

import Testing
import TupleguardTestSupport

/// What the doctor says of one sandbox.
struct Diagnosis {
    let status: Int32
    let findings: [[String: Any]]
    let report: [String: Any]

    func findings(_ kind: String) -> [[String: Any]] {
        findings.filter { $0["kind"] as? String == kind }
    }
    /// Without what is the kernel's fault, and not the sandbox's.
    var kinds: [String] {
        findings.compactMap { $0["kind"] as? String }.filter { !Self.kernelKinds.contains($0) }
    }
    static let kernelKinds = ["stale-tuple-hash", "closed-ports"]

    /// Of the one namespace that was looked at: its "sources" or "destinations".
    func list(_ name: String) -> [[String: Any]] {
        let namespaces = report["namespaces"] as? [[String: Any]] ?? []
        return namespaces.first?[name] as? [[String: Any]] ?? []
    }
}

protocol DoctorSuite {}

extension DoctorSuite {
    /// Asks the doctor about the sandbox's own network namespace.
    func diagnose(
        _ sandbox: Sandbox, sample: String = "0", asNobody: Bool = false, more: [String] = []
    ) throws -> Diagnosis {
        let outcome = try sandbox.command(
            Sandbox.program("tupleguard"),
            ["doctor", "--namespace", "self", "--sample", sample, "--json"] + more,
            asNobody: asNobody)
        let report = try outcome.json
        return Diagnosis(
            status: outcome.status,
            findings: try #require(report["findings"] as? [[String: Any]]), report: report)
    }

    func number(_ finding: [String: Any], _ name: String) -> Int? {
        (finding["numbers"] as? [String: Any])?[name] as? Int
    }

    func codes(_ finding: [String: Any]) -> [String] {
        (finding["remedies"] as? [[String: Any]] ?? []).compactMap { $0["code"] as? String }
    }

    func pids(_ finding: [String: Any]) -> [Int32] {
        (finding["processes"] as? [[String: Any]] ?? []).compactMap {
            ($0["pid"] as? Int).map { Int32($0) }
        }
    }
}
