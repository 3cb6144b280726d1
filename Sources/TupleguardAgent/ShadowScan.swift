// SPDX-License-Identifier: Apache-2.0
// Conflicts found by looking, where there is no guard to refuse them: what is remembered of
// them, and the shape in which it leaves the agent.

import Glibc
import Synchronization
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

/// A socket that shares its tuple, as it is told.
package struct ScannedSocket: Codable, Sendable {
    /// SO_COOKIE in decimal: a number that JSON's readers may not have room for.
    package let cookie: String
    /// Owner of the socket.
    package let uid: UInt32
    /// One process that has it open, in the agent's PID namespace; nil when none was found.
    package let pid: Int32?
    package let command: String?
    package let cgroup: String?

    init(_ record: SocketRecord, owners: SocketOwners, cgroups: CgroupNames) {
        cookie = String(record.cookie)
        uid = record.uid
        let process = owners.processes(of: record.inode).lazy
            .compactMap { ProcessIdentity(pid: $0) }.first
        pid = process?.pid
        command = process?.command
        cgroup = cgroups.path(of: record.cgroup)
    }

    /// "curl (pid 4711, uid 1000) in /user.slice"
    package var description: String {
        let name = command ?? "a process that is not known"
        let who = pid.map { "\(name) (pid \($0), uid \(uid))" } ?? "\(name) (uid \(uid))"
        return printable(cgroup.map { "\(who) in \($0)" } ?? who)
    }
}

/// A tuple with several sockets, when it was found or when it was over.
package struct ScanEventReport: Codable, Sendable, LoggedReport {
    package enum Action: String, Codable, Sendable {
        case found
        case ended
    }

    package let source: ConflictSource
    /// When a scan found it so.
    package let time: String
    package let action: Action
    /// When a scan found it first; it may be older by the interval between two.
    package let firstTime: String
    package let local: String
    package let remote: String
    /// What people call it; the guard's conflicts have a number.
    package let networkNamespaceName: String
    package let receiver: ScannedSocket
    package let overshadowed: [ScannedSocket]

    init(_ shadow: Shadow, time: UInt64, owners: SocketOwners, cgroups: CgroupNames) {
        source = .scan
        self.time = timestamp(time)
        action = .found
        firstTime = self.time
        local = shadow.tuple.local.description
        remote = shadow.tuple.remote.description
        networkNamespaceName = shadow.namespace.name
        receiver = ScannedSocket(shadow.receiver, owners: owners, cgroups: cgroups)
        overshadowed = shadow.overshadowed.map {
            ScannedSocket($0, owners: owners, cgroups: cgroups)
        }
    }

    /// The end of what `found` tells.
    init(endOf found: ScanEventReport, time: UInt64) {
        source = .scan
        self.time = timestamp(time)
        action = .ended
        firstTime = found.time
        local = found.local
        remote = found.remote
        networkNamespaceName = found.networkNamespaceName
        receiver = found.receiver
        overshadowed = found.overshadowed
    }

    /// Decodes a line that the agent made of one; nil for anything else.
    package init?(json line: String) {
        guard let report: Self = decodeJSON(line), report.source == .scan else { return nil }
        self = report
    }

    /// The cookies of all its sockets, which no other tuple has.
    package var cookies: Set<String> { Set(([receiver] + overshadowed).map(\.cookie)) }

    package var line: String {
        let tuple = "\(local) -> \(remote) in \(networkNamespaceName)"
        guard action == .found else {
            return printable("scan: \(tuple) is overshadowed no more; it was since \(firstTime)")
        }
        let losers = overshadowed.map(\.description).joined(separator: ", ")
        return printable(
            "scan: found \(tuple): \(receiver.description) receives, overshadowed: \(losers)")
    }
}

/// What the scans of an agent came to since it started.
package struct ScanSummary: Codable, Sendable {
    package internal(set) var scans: UInt64 = 0
    /// Tuples that were found with several sockets.
    package internal(set) var found: UInt64 = 0
    /// Those of them that are so still.
    package internal(set) var present: Int = 0
    /// What is known of these, up to a number.
    package internal(set) var shadows: [ScanEventReport] = []
}

/// The tuples with several sockets, from one scan to the next.
struct ScanTable: Sendable {
    /// Of so many it is remembered what they are; beyond that only that they are there.
    static let limit = 4096

    private struct Entry {
        var report: ScanEventReport?
    }

    private var entries: [Set<UInt64>: Entry] = [:]
    private var scans: UInt64 = 0
    private var found: UInt64 = 0

    /// Takes in what a scan found.
    ///
    /// - Parameters:
    ///   - time: nanoseconds since 1970.
    ///   - describe: makes reports of those that are new, in their order.
    /// - Returns: what is new, and what is over.
    mutating func update(
        _ shadows: [Shadow], time: UInt64, describe: ([Shadow]) -> [ScanEventReport]
    ) -> [ScanEventReport] {
        scans += 1
        let present = Dictionary(
            shadows.map { (Set($0.members.map(\.cookie)), $0) }, uniquingKeysWith: { a, _ in a })
        var events: [ScanEventReport] = []
        for (key, entry) in entries where present[key] == nil {
            entries[key] = nil
            if let report = entry.report {
                events.append(ScanEventReport(endOf: report, time: time))
            }
        }
        let new = present.filter { entries[$0.key] == nil }
        found += UInt64(new.count)
        let described = Array(new.prefix(max(0, Self.limit - entries.count)))
        let reports = describe(described.map(\.value))
        for (key, _) in new { entries[key] = Entry() }
        for ((key, _), report) in zip(described, reports) { entries[key]?.report = report }
        return events + reports
    }

    var summary: ScanSummary {
        var summary = ScanSummary()
        summary.scans = scans
        summary.found = found
        summary.present = entries.count
        summary.shadows = entries.values.compactMap(\.report).sorted { $0.time > $1.time }
        return summary
    }
}

/// The table as the scanner fills it and the server reads it.
final class Scans: Sendable {
    private let table = Mutex(ScanTable())

    func update(
        _ shadows: [Shadow], time: UInt64, describe: ([Shadow]) -> [ScanEventReport]
    ) -> [ScanEventReport] {
        // Reading /proc for names takes its time, so nobody is kept from the table meanwhile.
        var copy = table.withLock { $0 }
        let events = copy.update(shadows, time: time, describe: describe)
        table.withLock { $0 = copy }
        return events
    }

    var summary: ScanSummary { table.withLock { $0.summary } }
}
