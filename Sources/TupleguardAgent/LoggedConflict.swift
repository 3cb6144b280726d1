// SPDX-License-Identifier: Apache-2.0
// What the log has to know of a conflict besides its line: who caused it, which others are the same
// again, and what the journal is to find it by.

import ConnectxCore
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// On whose account a line goes.
struct LogParty: Hashable, Sendable, CustomStringConvertible {
    let uid: UInt32
    let cgroup: UInt64
    var path: String?

    init(_ process: ProcessIdentity?) {
        uid = process?.uid ?? 0
        cgroup = process?.cgroupId ?? 0
        path = process?.cgroup
    }

    static func == (a: LogParty, b: LogParty) -> Bool { a.uid == b.uid && a.cgroup == b.cgroup }
    func hash(into hasher: inout Hasher) {
        hasher.combine(uid)
        hasher.combine(cgroup)
    }

    var description: String {
        let place = path.map(placeName) ?? (cgroup == 0 ? nil : "cgroup \(cgroup), which is gone")
        return "uid \(uid)" + (place.map { " in \($0)" } ?? "")
    }
}

/// Conflicts that are alike in this are one that happens again.
struct ConflictKey: Hashable, Sendable {
    enum Kind: Hashable, Sendable {
        case `guard`(GuardEvent.Action, Reason, Transport, networkNamespace: UInt32)
        case connectx(Notice.Kind, Transport)
        case scan(ScanEvent.Action, Set<String>)
    }

    let tuple: FourTuple
    let kind: Kind
    let party: LogParty
}

/// A conflict as the log takes it.
protocol LoggedConflict: ConflictEvent {
    var party: LogParty { get }
    var key: ConflictKey { get }
    /// Without the source, the tuple and the message.
    var journalFields: [JournalField] { get }
}

extension LoggedConflict {
    /// For `journalctl MESSAGE_ID=…`: every conflict, however it came to be known.
    static var messageID: String { "c9f2d6a1e1f74f0fb0c2a5e0a35a7c11" }

    static func journalFields(of tuple: FourTuple) -> [JournalField] {
        [
            JournalField("MESSAGE_ID", messageID),
            JournalField("TUPLEGUARD_SOURCE", source.rawValue),
            JournalField("TUPLEGUARD_LOCAL", tuple.local.description),
            JournalField("TUPLEGUARD_REMOTE", tuple.remote.description),
        ]
    }

    /// What is known of a process, as TUPLEGUARD_`role`_PID and so on. OBJECT_SYSTEMD_UNIT makes
    /// `journalctl --unit` of its unit show the entry too.
    static func journalFields(of process: ProcessIdentity?, as role: String) -> [JournalField] {
        guard let process else { return [] }
        func field(_ name: String, _ value: String?) -> [JournalField] {
            value.map { [JournalField("TUPLEGUARD_\(role)_\(name)", printable($0))] } ?? []
        }
        let unit = process.cgroup.flatMap(SystemdUnit.name)
        return field("PID", process.pid == 0 ? nil : "\(process.pid)")
            + field("UID", "\(process.uid)") + field("COMMAND", process.command)
            + field("CGROUP", process.cgroup) + field("UNIT", unit)
            + field("POD", process.pod?.name) + field("POD_NAMESPACE", process.pod?.namespace)
            + field("POD_UID", process.pod?.uid) + field("CONTAINER", process.pod?.container)
            + (unit.map { [JournalField("OBJECT_SYSTEMD_UNIT", printable($0))] } ?? [])
    }
}

extension GuardEvent: LoggedConflict {
    var party: LogParty { LogParty(claimant) }

    var key: ConflictKey {
        ConflictKey(
            tuple: tuple,
            kind: .guard(action, reason, transport, networkNamespace: networkNamespace),
            party: party)
    }

    var journalFields: [JournalField] {
        Self.journalFields(of: tuple) + [
            JournalField("TUPLEGUARD_ACTION", action.rawValue),
            JournalField("TUPLEGUARD_REASON", reason.rawValue),
            JournalField("TUPLEGUARD_TRANSPORT", transport.name),
            JournalField("TUPLEGUARD_NETWORK_NAMESPACE", "\(networkNamespace)"),
        ]
            + (guardedCgroup.map { [JournalField("TUPLEGUARD_GUARDED_CGROUP", printable($0))] }
                ?? []) + Self.journalFields(of: claimant, as: "CLAIMANT")
            + Self.journalFields(of: holder, as: "HOLDER")
    }
}

extension ConnectxEvent: LoggedConflict {
    var party: LogParty { LogParty(sender) }

    var key: ConflictKey {
        ConflictKey(
            tuple: notice.tuple, kind: .connectx(notice.kind, notice.transport), party: party)
    }

    var journalFields: [JournalField] {
        Self.journalFields(of: notice.tuple) + [
            JournalField("TUPLEGUARD_REASON", notice.kind.name),
            JournalField("TUPLEGUARD_TRANSPORT", notice.transport.name),
        ] + Self.journalFields(of: sender, as: "SENDER")
    }
}

extension ScanEvent: LoggedConflict {
    var party: LogParty { LogParty(sides.all.last?.identity) }

    /// A scan tells of each once.
    var key: ConflictKey {
        ConflictKey(tuple: tuple, kind: .scan(action, cookies), party: party)
    }

    var journalFields: [JournalField] {
        Self.journalFields(of: tuple) + [
            JournalField("TUPLEGUARD_ACTION", action.rawValue),
            JournalField("TUPLEGUARD_NETWORK_NAMESPACE", printable(networkNamespaceName)),
        ] + sides.all.flatMap { Self.journalFields(of: $0.identity, as: "SHARER") }
    }
}

extension SharedSocket {
    /// The first process that has it open, in the socket's cgroup.
    fileprivate var identity: ProcessIdentity {
        ProcessIdentity(
            pid: processes.first?.pid ?? 0, uid: uid, command: processes.first?.command,
            cgroup: cgroup)
    }
}
