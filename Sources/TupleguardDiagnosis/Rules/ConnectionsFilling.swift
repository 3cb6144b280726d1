// SPDX-License-Identifier: Apache-2.0
// A cgroup that has nearly as many connections open as it may.

import TupleguardLinux

extension Evidence {
    func connectionsFindings(_ facts: GuardFacts) -> [Finding] {
        facts.limited.compactMap(connectionsFinding)
    }

    private func connectionsFinding(_ limited: GuardFacts.Limited) -> Finding? {
        guard let budget = limited.connections else { return nil }
        let filling = Filling(used: budget.used, possible: budget.limit)
        guard let severity = filling.severity else { return nil }
        let name = printable(limited.path)
        var notes = [
            "\(budget.description) connections (--max-connections); a socket that was disconnected and not closed is among them until another wants its place"
        ]
        if limited.refusedByBudget > 0 {
            notes.append(
                "\(amount(limited.refusedByBudget, "connect")) refused since it was attached: `tupleguard conflicts` names the programs"
            )
        }
        return Finding(
            severity, .connectionsFilling,
            filling.isFull
                ? "\(name) has as many connections open as it may: connect() gives \(limited.errno)"
                : "\(name) has nearly as many connections open as it may",
            numbers: [
                "used": budget.used, "possible": budget.limit, "refused": limited.refusedByBudget,
            ],
            usage: filling.usage, notes: notes,
            remedies: [
                .init(
                    "See which programs have them open, and whether they leave some behind.",
                    "ss -tupn"),
                .init(
                    "Let it have more; with the other options that `tupleguard status` shows.",
                    "tupleguard attach --replace --max-connections \(budget.limit * 2) \(shellWord(limited.path))"
                ),
            ])
    }
}
