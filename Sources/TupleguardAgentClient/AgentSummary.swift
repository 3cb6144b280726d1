// SPDX-License-Identifier: Apache-2.0
// What the agent has counted and remembers, as it answers GET /summary and GET /reports.

import Glibc
package import TupleguardLinux
package import TupleguardRecords
import TupleguardSockets

/// How many notices of connectx came since the agent started.
package struct NoticeTotals: Codable, Equatable, Sendable {
    /// Notices that were heard.
    package var notices: UInt64 = 0
    /// How often each kind happened, as the notices say.
    package var conflict: UInt64 = 0
    package var lostRace: UInt64 = 0
    package var exhausted: UInt64 = 0
    /// Those of `exhausted` that were TCP's.
    package var exhaustedTcp: UInt64 = 0
    /// Notices that were dropped because their sender, its user or all together sent too many.
    package var limited: UInt64 = 0
    /// Datagrams that were none of connectx's.
    package var invalid: UInt64 = 0

    package init() {}
}

/// What the scans of an agent came to since it started.
package struct ScanTotals: Codable, Equatable, Sendable {
    package var scans: UInt64 = 0
    /// Tuples that were found with several sockets.
    package var found: UInt64 = 0
    /// Those of them that are so still.
    package var present: Int = 0

    package init() {}
}

/// How many connects of a pod's container were refused.
package struct PodCount: Codable, Equatable, Sendable {
    package let pod: Pod
    package let refused: UInt64

    package init(pod: Pod, refused: UInt64) {
        self.pod = pod
        self.refused = refused
    }
}

/// The totals alone: a few numbers, however much there is to tell.
package struct AgentSummary: Codable, Equatable, Sendable {
    package var totals: NoticeTotals
    /// Of an agent that scans (`run --scan`).
    package var scan: ScanTotals?
    /// Of pods that were refused connects, most first; nil of an agent that does not count them.
    package var pods: [PodCount]?

    package init(totals: NoticeTotals, scan: ScanTotals?, pods: [PodCount]? = nil) {
        self.totals = totals
        self.scan = scan
        self.pods = pods
    }

    /// Asks the agent that runs; nil when none does.
    ///
    /// - Throws: `AgentError` when one runs but does not answer, or not with this.
    package static func read(from folder: RunFolder) throws(AgentError) -> AgentSummary? {
        try AgentConnection.answer("/summary", from: folder)
    }
}

/// The totals, and every conflict that the agent remembers.
package struct AgentFindings: Codable, Sendable {
    package struct Scan: Codable, Sendable {
        package var scans: UInt64
        package var found: UInt64
        package var present: Int
        /// What is known of those that are present, up to a number.
        package var shadows: [ScanEvent]

        package init(_ totals: ScanTotals, shadows: [ScanEvent]) {
            scans = totals.scans
            found = totals.found
            present = totals.present
            self.shadows = shadows
        }
    }

    package var totals: NoticeTotals
    /// Newest first.
    package var conflicts: [Conflict<ConnectxEvent>]
    /// Of an agent that scans (`run --scan`).
    package var scan: Scan?

    package init(totals: NoticeTotals, conflicts: [Conflict<ConnectxEvent>], scan: Scan?) {
        self.totals = totals
        self.conflicts = conflicts
        self.scan = scan
    }

    /// As `AgentSummary.read`.
    package static func read(from folder: RunFolder) throws(AgentError) -> AgentFindings? {
        try AgentConnection.answer("/reports", from: folder)
    }
}

/// Paths of the cgroups that had a part in a conflict, as the agent remembers them: those that are
/// gone, too.
package struct RememberedCgroups: Codable, Sendable {
    private struct Named: Codable {
        let id: UInt64
        let path: String
    }

    private let cgroups: [Named]

    package init(_ paths: [UInt64: String]) {
        cgroups = paths.map { Named(id: $0.key, path: $0.value) }
    }

    package var paths: [UInt64: String] {
        Dictionary(cgroups.map { ($0.id, $0.path) }, uniquingKeysWith: { a, _ in a })
    }

    /// As `AgentSummary.read`.
    package static func read(from folder: RunFolder) throws(AgentError) -> RememberedCgroups? {
        try AgentConnection.answer("/cgroups", from: folder)
    }
}

extension AgentConnection {
    /// What the agent that runs has at `path`; nil when none runs.
    static func answer<Value: Decodable>(
        _ path: String, from folder: RunFolder
    ) throws(AgentError) -> Value? {
        let text: String
        do throws(AgentError) {
            text = try AgentConnection.get(path, from: folder)
        } catch .failed(_, Errno(ENOENT), _), .failed(_, Errno(ECONNREFUSED), _) {
            return nil
        }
        guard let value: Value = decodeJSON(text) else {
            throw .failed(
                what: "read \(path) of the agent", errno: Errno(EPROTO),
                detail: "is the agent of another version?")
        }
        return value
    }
}
