// SPDX-License-Identifier: Apache-2.0
// Programs that may give a connect another destination after the guard has seen it.

import TupleguardLinux

extension Evidence {
    func guardFollowedFinding(_ facts: GuardFacts) -> [Finding] {
        guard !facts.remarks.isEmpty || facts.refusedRewritten > 0 else { return [] }
        return [
            Finding(
                .warning, .guardFollowed,
                facts.refusedRewritten > 0
                    ? "sockets were sent elsewhere after the guard had seen them"
                    : "the guard does not see all that becomes of sockets, or not all sockets",
                numbers: [
                    "refused_rewritten": facts.refusedRewritten, "remarks": facts.remarks.count,
                ],
                notes: facts.remarks,
                remedies: [
                    .init(
                        "Have the guard run after the programs that rewrite destinations: on their cgroup, and attached later.",
                        "tupleguard status")
                ])
        ]
    }
}
