// SPDX-License-Identifier: Apache-2.0
// Processes that nearly have all the descriptors that they may have.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords

extension Evidence {
    static let descriptorsFilling = 0.8
    static let descriptorsNearlyFull = 0.95

    func descriptorFindings() -> [Finding] {
        // Who has more open than it may have lowered its limit on purpose, to open nothing any
        // more.
        let worst = descriptors.filter {
            $0.open <= $0.limit
                && Self.descriptorSeverity(Filling(used: $0.open, possible: $0.limit)) != nil
        }
        .sorted { $0.open * $1.limit > $1.open * $0.limit }
        return worst.prefix(10).compactMap(descriptorFinding)
    }

    static func descriptorSeverity(_ filling: Filling) -> Severity? {
        if filling.usage >= descriptorsNearlyFull { return .critical }
        return filling.usage >= descriptorsFilling ? .warning : nil
    }

    private func descriptorFinding(_ use: DescriptorUse) -> Finding? {
        let filling = Filling(used: use.open, possible: use.limit)
        guard let severity = Self.descriptorSeverity(filling),
            let process = ProcessIdentity(pid: use.pid)
        else { return nil }
        let more = max(use.limit * 4, 65_536)
        return Finding(
            severity, .descriptors,
            "\(process.name) has \(percent(filling.usage)) of its descriptors open: at the limit socket() gives EMFILE",
            numbers: ["open": use.open, "limit": use.limit, "hard_limit": use.hardLimit],
            usage: filling.usage,
            notes: ["\(grouped(use.open)) of \(grouped(use.limit)) descriptors"],
            processes: [.init(process, "\(grouped(use.open)) descriptors")],
            remedies: Self.ceiling(for: more) + [
                .init(
                    "Raise the limit of the running process, as root.",
                    "prlimit --pid \(use.pid) --nofile=\(more):\(max(more, use.hardLimit))"),
                .init("And for its next start, under [Service]:", "LimitNOFILE=\(more)"),
            ])
    }

    /// No process may have a limit above fs.nr_open, not even root's (setrlimit gives EPERM).
    private static func ceiling(for limit: Int) -> [Finding.Remedy] {
        guard let most = Proc.system.numericSetting("fs/nr_open"), most < limit else { return [] }
        return [
            .init("Raise what any process may have.", "sysctl -w fs.nr_open=\(limit)")
        ]
    }
}
