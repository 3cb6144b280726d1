// SPDX-License-Identifier: Apache-2.0
// A range of ephemeral ports that is small.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    /// Half of the kernel's default.
    static let smallRange = 14_116

    func smallRangeFinding(_ namespace: NamespaceSurvey) -> [Finding] {
        let settings = namespace.settings
        guard settings.possible < Self.smallRange else { return [] }
        let range = "\(settings.range.lowerBound) to \(settings.range.upperBound)"
        return [
            Finding(
                settings.possible == 0 ? .critical : .warning, .smallRange,
                settings.possible == 0
                    ? "there are no ephemeral ports: every connect() fails that names none"
                    : "only \(amount(settings.possible, "ephemeral port")) to each destination",
                in: namespace.namespace,
                numbers: [
                    "possible": settings.possible, "lowest": Int(settings.range.lowerBound),
                    "highest": Int(settings.range.upperBound),
                    "reserved": settings.reservedCount,
                ],
                notes: [
                    "ip_local_port_range is \(range), less \(grouped(settings.reservedCount)) reserved; the default is 32768 to 60999"
                ],
                remedies: rangeRemedies(namespace))
        ]
    }
}
