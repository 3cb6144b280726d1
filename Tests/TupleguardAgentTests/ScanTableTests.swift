// SPDX-License-Identifier: Apache-2.0
// Tuples with several sockets from one scan to the next: each is told once when it comes and once
// when it goes.

import Testing
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent
@testable import TupleguardHostSurvey

private func time(_ seconds: UInt64) -> Timestamp {
    Timestamp(nanosecondsSince1970: seconds * 1_000_000_000)
}

struct ScanTableTests {
    /// Two sockets, or another two, on a port.
    private func shadow(_ port: Int, cookies: (UInt32, UInt32)? = nil) -> Shadow {
        let (local, remote) = ("192.0.2.1:\(port)", "198.51.100.7:53")
        let (a, b) = cookies ?? (UInt32(2 * port), UInt32(2 * port + 1))
        let receiver = makeSocketRecord(local, remote, cookie: a)
        return makeShadow(
            [receiver, makeSocketRecord(local, remote, cookie: b)],
            in: NetworkNamespace(path: "/proc/self/ns/net")!)
    }

    private func update(
        _ table: inout ScanTable, _ shadows: [Shadow], at seconds: UInt64
    ) -> [ScanEvent] {
        let time = time(seconds)
        return table.update(shadows, time: time) { shadows in
            let (owners, cgroups) = (SocketOwners(of: []), CgroupNames())
            return shadows.map { ScanEvent($0, time: time, owners: owners, cgroups: cgroups) }
        }
    }

    @Test("Found once, however often it is looked at; ended once, with the time of the first sight")
    func onceEach() throws {
        var table = ScanTable()
        let found = update(&table, [shadow(5000)], at: 1)
        try #require(found.map(\.action) == [.found])
        #expect(found[0].sides.receiver?.cookie == "10000")
        #expect(found[0].sides.overshadowed.map(\.cookie) == ["10001"])
        #expect(found[0].firstTime == time(1))
        #expect(update(&table, [shadow(5000)], at: 2).isEmpty)
        #expect(update(&table, [shadow(5000)], at: 3).isEmpty)
        #expect(table.totals.found == 1)
        #expect(table.totals.present == 1)
        #expect(table.shadows.map(\.tuple.local.description) == ["192.0.2.1:5000"])
        let ended = update(&table, [], at: 4)
        try #require(ended.map(\.action) == [.ended])
        #expect(ended[0].tuple.local.description == "192.0.2.1:5000")
        #expect(ended[0].time == time(4))
        #expect(ended[0].firstTime == time(1))
        #expect(
            ended[0].line
                == "scan: 192.0.2.1:5000 -> 198.51.100.7:53 in this network namespace is overshadowed no more; it was since \(time(1))"
        )
        #expect(update(&table, [], at: 5).isEmpty)
        #expect(table.totals.scans == 5)
        #expect(table.totals.found == 1)
        #expect(table.totals.present == 0)
        #expect(table.shadows.isEmpty)
    }

    @Test("Other sockets on the same tuple are another conflict")
    func otherSockets() throws {
        var table = ScanTable()
        _ = update(&table, [shadow(5000)], at: 1)
        let events = update(&table, [shadow(5000, cookies: (10_001, 7))], at: 2)
        try #require(events.map(\.action) == [.ended, .found])
        #expect(events[1].sides.receiver?.cookie == "10001")
        #expect(table.totals.found == 2)
        #expect(table.totals.present == 1)
    }

    @Test("What a scan finds new is told beside what it knows")
    func severalAtOnce() {
        var table = ScanTable()
        _ = update(&table, [shadow(5000), shadow(5001)], at: 1)
        let events = update(&table, [shadow(5001), shadow(5002)], at: 2)
        #expect(events.map(\.action) == [.ended, .found])
        #expect(events.map(\.tuple.local.description) == ["192.0.2.1:5000", "192.0.2.1:5002"])
        #expect(table.totals.found == 3)
        #expect(
            table.shadows.map(\.tuple.local.description) == ["192.0.2.1:5002", "192.0.2.1:5001"])
    }

    @Test("All are counted, and of so many it is remembered what they are")
    func bounded() {
        var table = ScanTable()
        let all = (0..<ScanTable.limit + 5).map { shadow(5000 + $0) }
        #expect(update(&table, all, at: 1).count == ScanTable.limit)
        #expect(update(&table, all, at: 2).isEmpty)
        #expect(table.totals.found == UInt64(all.count))
        #expect(table.totals.present == all.count)
        #expect(table.shadows.count == ScanTable.limit)
        #expect(update(&table, [], at: 3).count == ScanTable.limit)
        #expect(table.totals.present == 0)
    }
}
