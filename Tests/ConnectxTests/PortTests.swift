// SPDX-License-Identifier: Apache-2.0

import Testing
import TupleguardSockets

@testable import Connectx
@testable import ConnectxCore

@Suite struct PortTests {
    @Test func setsOfPortsAreWalkedRoundTheEnd() {
        var set = PortSet()
        #expect(set.next(from: 0) == nil)
        for port: UInt16 in [0, 63, 64, 40_000, 65_535] { set.insert(port) }
        #expect(set.next(from: 0) == 0)
        #expect(set.next(from: 1) == 63)
        #expect(set.next(from: 64) == 64)
        #expect(set.next(from: 65) == 40_000)
        #expect(set.next(from: 40_001) == 65_535)
        set.remove(65_535)
        #expect(set.next(from: 40_001) == 0)
        set.remove(0)
        // The only members below it in the same word are found at the end of the round.
        set.remove(64)
        set.remove(40_000)
        #expect(set.next(from: 63) == 63)
        #expect(set.next(from: 62) == 63)
        set.insert(60)
        set.remove(63)
        #expect(set.next(from: 61) == 60)
    }

    private func purpose(_ port: UInt16) -> PortPurpose {
        PortPurpose(
            local: IPAddress(v4: 127, 0, 0, 1), interface: 0,
            remote: Endpoint(IPAddress(v4: 127, 0, 0, 2), port))
    }

    private func ports(_ members: UInt16...) -> PortSet {
        var set = PortSet()
        for port in members { set.insert(port) }
        return set
    }

    @Test func listsServeTheirPurposeUntilTheyAreUsedUpOrOld() {
        var free = FreePorts()
        #expect(free.take(for: purpose(1), from: 0, now: 10) == nil)
        free.keep(ports(100, 200), for: purpose(1), now: 10)
        #expect(free.take(for: purpose(2), from: 0, now: 10) == nil)
        #expect(free.take(for: purpose(1), from: 150, now: 10) == 200)
        #expect(free.take(for: purpose(1), from: 150, now: 10) == 100)
        #expect(free.take(for: purpose(1), from: 150, now: 10) == nil)
        free.keep(ports(300), for: purpose(1), now: 10)
        #expect(free.take(for: purpose(1), from: 0, now: 10 + 1_000_000_001) == nil)
        #expect(free.take(for: purpose(1), from: 0, now: 10 + 1_000_000_000) == 300)
    }

    @Test func theOldestListMakesWay() {
        var free = FreePorts()
        let last = UInt16(FreePorts.limit) + 1
        for number in 1...last { free.keep(ports(number), for: purpose(number), now: 0) }
        #expect(free.take(for: purpose(1), from: 0, now: 0) == nil)
        for number in 2...last {
            #expect(free.take(for: purpose(number), from: 0, now: 0) == number)
        }
    }

    @Test func randomNumbersStayBelowTheirBoundAndReachAll() throws {
        var random = RandomSource()
        var seen = Set<UInt32>()
        for _ in 0..<2000 { seen.insert(try random.next(below: 10)) }
        #expect(seen == Set(0..<10))
    }
}
