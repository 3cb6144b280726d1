// SPDX-License-Identifier: Apache-2.0
// UDP ports that are shared where no guard is attached.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    /// Ports are shared, so tuples can be, and nobody looks.
    func unguardedFinding() -> [Finding] {
        let shared = survey.namespaces.flatMap(\.udp.sources).reduce(0) { $0 + $1.sharedPorts }
        guard shared > 0 || !survey.shadows.isEmpty else { return [] }
        return [
            Finding(
                survey.shadows.isEmpty ? .info : .warning, .unguarded,
                "UDP ports are shared and no guard is attached",
                numbers: ["shared_ports": shared, "overshadowed_tuples": survey.shadows.count],
                remedies: [
                    .init(
                        "Guard the programs that share them.",
                        "tupleguard attach \(survey.shadows.first.map(cgroup) ?? "system.slice")")
                ])
        ]
    }
}
