// SPDX-License-Identifier: Apache-2.0
// Conflicts found by looking, where there is no guard to refuse them: what is remembered of them.

import Synchronization
import TupleguardAgentClient
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag

extension ScanEvent {
    init(_ shadow: Shadow, time: Timestamp, owners: SocketOwners, cgroups: CgroupNames) {
        self.init(
            time: time, tuple: shadow.tuple, networkNamespaceName: shadow.namespace.name,
            sides: ShadowSides(shadow, owners: owners, cgroups: cgroups))
    }
}

/// The tuples with several sockets, from one scan to the next.
struct ScanTable: Sendable {
    /// Of so many it is remembered what they are; beyond that only that they are there.
    static let limit = 4096

    private struct Entry {
        var event: ScanEvent?
    }

    private var entries: [Set<UInt64>: Entry] = [:]
    private(set) var totals = ScanTotals()

    /// Takes in what a scan found.
    ///
    /// - Parameters:
    ///   - describe: makes events of those that are new, in their order.
    /// - Returns: what is new, and what is over.
    mutating func update(
        _ shadows: [Shadow], time: Timestamp, describe: ([Shadow]) -> [ScanEvent]
    ) -> [ScanEvent] {
        totals.scans += 1
        let present = Dictionary(
            shadows.map { (Set($0.members.map(\.cookie)), $0) }, uniquingKeysWith: { a, _ in a })
        var events: [ScanEvent] = []
        for (key, entry) in entries where present[key] == nil {
            entries[key] = nil
            if let event = entry.event {
                events.append(event.ended(at: time))
            }
        }
        let new = present.filter { entries[$0.key] == nil }
        totals.found += UInt64(new.count)
        let described = Array(new.prefix(max(0, Self.limit - entries.count)))
        let found = describe(described.map(\.value))
        for (key, _) in new { entries[key] = Entry() }
        totals.present = entries.count
        for ((key, _), event) in zip(described, found) { entries[key]?.event = event }
        return events + found
    }

    /// What is known of those that are present, newest first.
    var shadows: [ScanEvent] {
        entries.values.compactMap(\.event).sorted { $0.time > $1.time }
    }
}

/// The table as the scanner fills it and the server reads it.
final class Scans: Sendable {
    private let table = Mutex(ScanTable())

    func update(
        _ shadows: [Shadow], time: Timestamp, describe: ([Shadow]) -> [ScanEvent]
    ) -> [ScanEvent] {
        // Reading /proc for names takes its time, so nobody is kept from the table meanwhile.
        var copy = table.withLock { $0 }
        let events = copy.update(shadows, time: time, describe: describe)
        table.withLock { $0 = copy }
        return events
    }

    var totals: ScanTotals { table.withLock { $0.totals } }

    var findings: AgentFindings.Scan {
        let table = table.withLock { $0 }
        return AgentFindings.Scan(table.totals, shadows: table.shadows)
    }
}
