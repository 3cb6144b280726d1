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
        let doubt = shadow.judgement.doubt
        let winners = shadow.judgement.contenders.flatMap {
            involved($0.socket, doubt == nil ? "receives" : "may receive")
        }
        let losers = shadow.overshadowed.flatMap { involved($0, "overshadowed, receives nothing") }
        return Finding(
            .critical, .overshadowed, what(shadow), in: shadow.namespace, protocolName: "udp",
            local: shadow.tuple.local.description, remote: shadow.tuple.remote.description,
            numbers: ["sockets": shadow.members.count],
            notes: doubt.map { ["which of them receives depends on \($0.explanation)"] } ?? [],
            processes: winners + losers,
            remedies: [
                .init(
                    doubt == nil
                        ? "End the socket that receives; the other gets its answers back."
                        : "End one of them; it asks which.",
                    "tupleguard shadows --resolve"),
                .init(
                    "So that it does not come back, refuse it.",
                    "tupleguard attach \(cgroup(of: shadow))"),
            ])
    }

    private func what(_ shadow: Shadow) -> String {
        guard shadow.judgement.doubt == nil else {
            return
                "\(amount(shadow.members.count, "UDP socket")) on \(shadow.tuple) get answers that are meant for one of them"
        }
        let losers = shadow.overshadowed.count
        return
            "\(amount(losers, "UDP socket")) on \(shadow.tuple) \(losers == 1 ? "waits" : "wait") for answers in vain"
    }

    private func involved(_ record: SocketRecord, _ role: String) -> [Finding.Involved] {
        shadowOwners.processes(of: record.inode).compactMap { pid in
            ProcessIdentity(pid: pid).map { .init($0, role) }
        }
    }
}
