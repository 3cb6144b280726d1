// SPDX-License-Identifier: Apache-2.0
// The shapes in which userspace reports leave the agent as JSON, beside the guard's own in
// Reports.swift. Their field names are stable.

import ConnectxCore
import FoundationEssentials
import Glibc
package import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Who saw a conflict.
package enum ConflictSource: String, Codable, Sendable {
    /// The guard's programs, which cannot be deceived.
    case kernel
    /// A program, which may say what it likes; only who it is comes from the kernel.
    case userspace
    /// An agent that looks at all sockets now and then.
    case scan
}

extension Notice.Kind {
    /// A stable name, for machines.
    var name: String {
        switch self {
        case .conflict: "conflict"
        case .lostRace: "lost-race"
        case .exhausted: "exhausted"
        }
    }

    /// For people, after "because".
    var explanation: String {
        switch self {
        case .conflict: "another socket has the tuple that the program asked for"
        case .lostRace: "another socket took the tuple while the program was about to"
        case .exhausted: "no local port is free for this destination"
        }
    }
}

extension Transport {
    var name: String {
        switch self {
        case .tcp: "tcp"
        case .udp: "udp"
        }
    }
}

/// The process that sent a report.
package struct SenderReport: Codable, Sendable {
    package let pid: UInt32
    package let uid: UInt32
    /// As read when the report had come: nil when the process had gone by then.
    package let command: String?
    package let cgroup: String?
    package let cgroupId: UInt64

    init(_ process: SenderProcess, cgroups: CgroupNames) {
        pid = process.sender.pid
        uid = process.sender.uid
        command = process.command
        cgroup = cgroups.path(of: process.cgroup)
        cgroupId = process.cgroup
    }

    /// "curl (pid 4711, uid 1000) in /user.slice"
    package var description: String {
        let who = "\(command ?? "a process that has gone") (pid \(pid), uid \(uid))"
        return printable(cgroup.map { "\(who) in \($0)" } ?? who)
    }
}

/// One report as it came.
package struct UserspaceEventReport: Codable, Sendable {
    package let source: ConflictSource
    package let time: String
    package let reason: String
    package let transport: String
    package let local: String
    package let remote: String
    /// How often it happened since the sender's last report, as the sender says.
    package let count: UInt32
    package let sender: SenderReport

    init(_ event: UserspaceEvent, cgroups: CgroupNames) {
        source = .userspace
        time = timestamp(event.time)
        reason = event.report.kind.name
        transport = event.report.transport.name
        local = event.report.tuple.local.description
        remote = event.report.tuple.remote.description
        count = event.report.count
        sender = SenderReport(event.process, cgroups: cgroups)
    }

    /// Decodes a line that the agent made of one; nil for anything else, such as the guard's own.
    package init?(json line: String) {
        guard let report: Self = decodeJSON(line), report.source == .userspace else { return nil }
        self = report
    }

    private var kind: Notice.Kind? {
        Notice.Kind.allCases.first { $0.name == reason }
    }

    /// What it is about: the tuple, or the destination where no port was left for it.
    package var subject: String {
        kind == .exhausted ? "no port left for \(remote)" : "\(local) -> \(remote)"
    }

    package var explanation: String { kind?.explanation ?? reason }

    /// One line for people.
    package var line: String {
        let times = count == 1 ? "" : " \(count) times"
        return printable(
            "userspace: \(subject) (\(transport)), reported\(times) by \(sender.description): \(explanation)"
        )
    }
}

/// All reports of one user about one tuple.
package struct UserspaceConflictReport: Codable, Sendable {
    package let source: ConflictSource
    package let count: UInt64
    package let firstTime: String
    package let lastTime: String
    package let last: UserspaceEventReport

    init(_ conflict: UserspaceConflict, cgroups: CgroupNames) {
        source = .userspace
        count = conflict.count
        firstTime = timestamp(conflict.first)
        lastTime = timestamp(conflict.last.time)
        last = UserspaceEventReport(conflict.last, cgroups: cgroups)
    }
}

/// What the agent answers to GET /reports.
package struct UserspaceSummary: Codable, Sendable {
    package let totals: UserspaceTotals
    /// Newest first.
    package let conflicts: [UserspaceConflictReport]
    /// Of an agent that scans (`run --userspace`).
    package internal(set) var scan: ScanSummary?

    /// Asks the agent that runs; nil when none does.
    ///
    /// - Throws: `GuardError` when one runs but does not answer, or not with this.
    package static func read(from folder: RunFolder) throws(GuardError) -> UserspaceSummary? {
        let text: String
        do throws(GuardError) {
            text = try AgentConnection.get("/reports", from: folder)
        } catch .failed(_, Errno(ENOENT), _), .failed(_, Errno(ECONNREFUSED), _) {
            return nil
        }
        guard let summary: Self = decodeJSON(text) else {
            throw .failed(
                what: "read the agent's reports", errno: Errno(EPROTO),
                detail: "is the agent of another version?")
        }
        return summary
    }
}
