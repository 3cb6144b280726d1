// SPDX-License-Identifier: Apache-2.0
// A guard that does not cover all the sockets that meet.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    func guardTooLowFinding(_ facts: GuardFacts) -> [Finding] {
        let outside = survey.shadows.filter { shadow in
            shadow.members.contains { member in
                cgroupPath(member.cgroup).map { !facts.covers($0) } ?? false
            }
        }
        guard facts.refusedOutside > 0 || !outside.isEmpty else { return [] }
        return [
            Finding(
                .warning, .guardTooLow,
                "the guard is attached too low: sockets outside it use the same tuples",
                numbers: [
                    "refused_outside": facts.refusedOutside, "overshadowed_tuples": outside.count,
                ],
                notes: ["guarded: \(facts.cgroups.joined(separator: ", "))"],
                remedies: [
                    .init(
                        "Attach it to a cgroup above both sides.",
                        "tupleguard attach \(outside.first.map(cgroup) ?? "/")")
                ])
        ]
    }
}
