// SPDX-License-Identifier: Apache-2.0
// A range of ephemeral ports that is in pieces.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    /// From which part of the range reserved ports are worth a word.
    static let reservedShare = 0.25
    static let manyPieces = 100

    func fragmentedRangeFinding(_ namespace: NamespaceSurvey) -> [Finding] {
        let settings = namespace.settings
        let isWorthAWord =
            Double(settings.reservedCount) >= Self.reservedShare * Double(settings.range.count)
            || settings.pieces >= Self.manyPieces
        return isWorthAWord ? [fragmentedRange(namespace)] : []
    }

    private func fragmentedRange(_ namespace: NamespaceSurvey) -> Finding {
        let settings = namespace.settings
        let range = "\(settings.range.lowerBound) to \(settings.range.upperBound)"
        return Finding(
            .info, .fragmentedRange,
            "\(grouped(settings.reservedCount)) of \(grouped(settings.range.count)) ephemeral ports are reserved, which leaves \(amount(settings.pieces, "piece"))",
            in: namespace.namespace,
            numbers: [
                "reserved": settings.reservedCount, "range": settings.range.count,
                "pieces": settings.pieces, "possible": settings.possible,
            ],
            notes: [
                "bind() and connect() walk over reserved ports one by one; the range is \(range)"
            ],
            remedies: [
                .init(
                    "Reserve ports outside the range, or move the range away from them.",
                    "\(namespace.namespace.commandPrefix)sysctl net.ipv4.ip_local_reserved_ports net.ipv4.ip_local_port_range"
                )
            ])
    }
}
