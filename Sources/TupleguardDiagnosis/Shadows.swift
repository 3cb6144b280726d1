// SPDX-License-Identifier: Apache-2.0
// UDP sockets that are overshadowed, and what the guard has to do with it.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

extension Evidence {
    static let namedShadows = 10

    func overshadowed() -> [Finding] {
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

    /// The cgroup to guard: the one that all of them are in, or below.
    private func cgroup(of shadow: Shadow) -> String {
        let paths = shadow.members.map { cgroupPath($0.cgroup).map { $0.split(separator: "/") } }
        guard var common = paths.first ?? nil else { return "CGROUP" }
        for path in paths {
            guard let path else { return "CGROUP" }
            while !path.starts(with: common) { common.removeLast() }
        }
        return shellWord("/" + common.joined(separator: "/"))
    }

    // MARK: - The guard

    static let tableNearlyFull = 0.8

    func guardFindings() -> [Finding] {
        switch guardSight {
        case .unseen: []
        case .none: unguarded()
        case .attached(let facts): tooLow(facts) + table(facts) + events(facts)
        }
    }

    /// Ports are shared, so tuples can be, and nobody looks.
    private func unguarded() -> [Finding] {
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

    private func tooLow(_ facts: GuardFacts) -> [Finding] {
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

    private func table(_ facts: GuardFacts) -> [Finding] {
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

    private func events(_ facts: GuardFacts) -> [Finding] {
        guard facts.eventsDropped > 0 else { return [] }
        return [
            Finding(
                .info, .guardEventsDropped,
                "\(amount(facts.eventsDropped, "event")) of the guard went unread; every counter is still exact",
                numbers: ["events_dropped": facts.eventsDropped],
                remedies: [
                    .init("Run the agent, or see what floods it.", "tupleguard conflicts")
                ])
        ]
    }
}
