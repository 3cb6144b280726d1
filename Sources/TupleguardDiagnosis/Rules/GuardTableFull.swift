// SPDX-License-Identifier: Apache-2.0
// A guard's table that has no room left.

import TupleguardLinux

extension Evidence {
    static let tableNearlyFull = 0.8

    func guardTableFinding(_ facts: GuardFacts) -> [Finding] {
        let filling = Filling(used: facts.claims, possible: facts.tableSize)
        guard filling.usage >= Self.tableNearlyFull || facts.withoutRoom > 0 else { return [] }
        return [
            Finding(
                filling.usage >= 1 ? .critical : .warning, .guardTableFull,
                facts.withoutRoom > 0
                    ? "the guard's table was too small for \(amount(facts.withoutRoom, "connect"))"
                    : "the guard's table is nearly full",
                numbers: [
                    "claims": facts.claims, "table_size": facts.tableSize,
                    "without_room": facts.withoutRoom,
                ],
                usage: filling.usage,
                notes: ["\(grouped(facts.claims)) claims of \(grouped(facts.tableSize))"],
                remedies: [
                    .init(
                        "Attach it anew with a larger table, each cgroup with the policy that `status` shows; connects go unguarded for that moment.",
                        Self.enlarge(facts))
                ])
        ]
    }

    /// The size is for all cgroups, and fixed by the first.
    private static func enlarge(_ facts: GuardFacts) -> String {
        let size = min(facts.tableSize * 4, facts.largestTable)
        let cgroups = facts.cgroups.isEmpty ? ["CGROUP"] : facts.cgroups.map(shellWord)
        return
            (["tupleguard detach --all"]
            + cgroups.map { "tupleguard attach --table-size \(size) \($0)" }).joined(
                separator: " && ")
    }
}
