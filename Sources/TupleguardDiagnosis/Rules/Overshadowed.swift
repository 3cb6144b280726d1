// SPDX-License-Identifier: Apache-2.0
// UDP sockets that are overshadowed.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

extension Evidence {
    static let namedShadows = 10

    func overshadowedFindings() -> [Finding] {
        let shadows = survey.shadows
        var findings = shadows.prefix(Self.namedShadows).map(shadowFinding)
        if shadows.count > findings.count {
            let more = shadows.count - findings.count
            findings.append(
                Finding(
                    .critical, .overshadowed, "\(amount(more, "more tuple")) with several sockets",
                    numbers: ["tuples": more],
                    remedies: [.init("List them all.", "tupleguard shadows")]))
        }
        return findings
    }

    private func shadowFinding(_ shadow: Shadow) -> Finding {
        let losers = shadow.overshadowed.flatMap { involved($0, "overshadowed, receives nothing") }
        return Finding(
            .critical, .overshadowed,
            "\(amount(shadow.overshadowed.count, "UDP socket")) on \(shadow.tuple) \(shadow.overshadowed.count == 1 ? "waits" : "wait") for answers in vain",
            in: shadow.namespace, protocolName: "udp", local: shadow.tuple.local.description,
            remote: shadow.tuple.remote.description,
            numbers: ["sockets": shadow.members.count],
            processes: involved(shadow.receiver, "receives") + losers,
            remedies: [
                .init(
                    "End the socket that receives; the other gets its answers back.",
                    "tupleguard shadows --resolve"),
                .init(
                    "So that it does not come back, refuse it.",
                    "tupleguard attach \(cgroup(of: shadow))"),
            ])
    }

    private func involved(_ record: SocketRecord, _ role: String) -> [Finding.Involved] {
        shadowOwners.processes(of: record.inode).compactMap { pid in
            ProcessIdentity(pid: pid).map { .init($0, role) }
        }
    }
}
