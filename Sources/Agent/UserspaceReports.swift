// SPDX-License-Identifier: Apache-2.0
// The shapes in which userspace reports leave the agent as JSON, beside the guard's own in
// Reports.swift. Their field names are stable.

import FoundationEssentials
import Glibc
import Guard
import Net

/// Who saw a conflict.
public enum ConflictSource: String, Codable, Sendable {
    /// The guard's programs, which cannot be deceived.
    case kernel
    /// A program, which may say what it likes; only who it is comes from the kernel.
    case userspace
    /// An agent that looks at all sockets now and then.
    case scan
}

extension UserspaceReport.Kind {
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

extension UserspaceReport.Transport {
    var name: String {
        switch self {
        case .tcp: "tcp"
        case .udp: "udp"
        }
    }
}

/// The process that sent a report.
public struct SenderReport: Codable, Sendable {
    public let pid: UInt32
    public let uid: UInt32
    /// As read when the report had come: nil when the process had gone by then.
    public let command: String?
    public let cgroup: String?
    public let cgroupId: UInt64

    init(_ process: SenderProcess, cgroups: CgroupNames) {
        pid = process.sender.pid
        uid = process.sender.uid
        command = process.command
        cgroup = cgroups.path(of: process.cgroup)
        cgroupId = process.cgroup
    }

    /// "curl (pid 4711, uid 1000) in /user.slice"
    public var description: String {
        let who = "\(command ?? "a process that has gone") (pid \(pid), uid \(uid))"
        return printable(cgroup.map { "\(who) in \($0)" } ?? who)
    }
}

/// One report as it came.
public struct UserspaceEventReport: Codable, Sendable {
    public let source: ConflictSource
    public let time: String
    public let reason: String
    public let transport: String
    public let local: String
    public let remote: String
    /// How often it happened since the sender's last report, as the sender says.
    public let count: UInt32
    public let sender: SenderReport

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
    public init?(json line: String) {
        guard let report: Self = decodeJSON(line), report.source == .userspace else { return nil }
        self = report
    }

    private var kind: UserspaceReport.Kind? {
        UserspaceReport.Kind.allCases.first { $0.name == reason }
    }

    /// What it is about: the tuple, or the destination where no port was left for it.
    public var subject: String {
        kind == .exhausted ? "no port left for \(remote)" : "\(local) -> \(remote)"
    }

    public var explanation: String { kind?.explanation ?? reason }

    /// One line for people.
    public var line: String {
        let times = count == 1 ? "" : " \(count) times"
        return printable(
            "userspace: \(subject) (\(transport)), reported\(times) by \(sender.description): \(explanation)"
        )
    }
}

/// All reports of one user about one tuple.
public struct UserspaceConflictReport: Codable, Sendable {
    public let source: ConflictSource
    public let count: UInt64
    public let firstTime: String
    public let lastTime: String
    public let last: UserspaceEventReport

    init(_ conflict: UserspaceConflict, cgroups: CgroupNames) {
        source = .userspace
        count = conflict.count
        firstTime = timestamp(conflict.first)
        lastTime = timestamp(conflict.last.time)
        last = UserspaceEventReport(conflict.last, cgroups: cgroups)
    }
}

/// What the agent answers to GET /reports.
public struct UserspaceSummary: Codable, Sendable {
    public let totals: UserspaceTotals
    /// Newest first.
    public let conflicts: [UserspaceConflictReport]
    /// Of an agent that scans (`run --userspace`).
    public internal(set) var scan: ScanSummary?

    /// Asks the agent that runs; nil when none does.
    ///
    /// - Throws: `GuardError` when one runs but does not answer, or not with this.
    public static func read(from folder: RunFolder) throws(GuardError) -> UserspaceSummary? {
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
