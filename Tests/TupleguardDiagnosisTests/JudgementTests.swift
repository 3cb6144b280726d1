// SPDX-License-Identifier: Apache-2.0
// Who of several sockets receives, judged from what the look-up finds on each processor.

import Glibc
import Testing
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardTestSupport

@testable import TupleguardHostSurvey

struct JudgementTests {
    private static let (old, new) = (KernelVersion(6, 12, 90), KernelVersion(7, 2))

    /// Sockets 1, 2, 3: the last to come first.
    private func sockets(
        _ count: Int, families: [Int32] = [], interfaces: [UInt32] = []
    ) -> [SocketRecord] {
        (1...count).map { number in
            makeSocketRecord(
                "192.0.2.1:5000", "198.51.100.7:53", cookie: UInt32(number),
                family: families.isEmpty ? AF_INET : families[number - 1],
                interface: interfaces.isEmpty ? 0 : interfaces[number - 1])
        }
    }

    /// Of `count` sockets, the processors in turn find `found`.
    private func judge(
        _ found: [UInt64?], count: Int = 2, of processors: Int? = nil, _ kernel: KernelVersion?,
        early: Bool, families: [Int32] = [], interfaces: [UInt32] = []
    ) -> Judgement? {
        Judgement(
            of: sockets(count, families: families, interfaces: interfaces),
            found: found.enumerated().map { (Int32($0), $1) },
            .init(
                kernel: kernel, processors: processors ?? found.count,
                isDemultiplexedEarly: early))
    }

    private func receiver(_ judgement: Judgement?) -> UInt64? { judgement?.receiver?.cookie }
    private func contenders(_ judgement: Judgement?) -> [UInt64]? {
        judgement?.contenders.map(\.socket.cookie)
    }

    @Test("One answer everywhere, over loopback: that one", arguments: [Self.old, Self.new])
    func loopback(kernel: KernelVersion) {
        for processors in [1, 2, 8] {
            for cookie: UInt64 in [1, 2] {
                let found = [UInt64?](repeating: cookie, count: processors)
                #expect(receiver(judge(found, kernel, early: false)) == cookie)
            }
        }
    }

    @Test("Another answer on another processor: nobody is called the receiver")
    func processors() {
        for early in [false, true] {
            let judgement = judge([2, 1, 1, 1], count: 3, Self.old, early: early)
            #expect(receiver(judgement) == nil)
            #expect(judgement?.doubt == .processor)
            #expect(contenders(judgement) == (early ? [1, 2, 3] : [1, 2]))
            #expect(judgement?.contenders[1].processors == [0])
        }
    }

    @Test("By a device, up to 6.12: who is found on two processors came last")
    func deviceBefore() {
        #expect(receiver(judge([2, 2], Self.old, early: true)) == 2)
        // It may have received here, and the other have come later.
        let single = judge([2], Self.old, early: true)
        #expect(single?.doubt == .arrival)
        #expect(contenders(single) == [2, 1])
    }

    @Test("By a device, from 6.13 on: only who is last by either order")
    func deviceAfter() {
        #expect(receiver(judge([1, 1], Self.new, early: true)) == 1)
        #expect(judge([2, 2], Self.new, early: true)?.doubt == .arrival)
    }

    @Test(
        "Where reconnecting does not change the hash, the orders tell nothing",
        arguments: [
            (KernelVersion(6, 13, 1), false), (KernelVersion(6, 18, 16), false),
            (KernelVersion(6, 18, 17), true), (KernelVersion(6, 19, 6), false),
            (KernelVersion(6, 19, 7), true), (KernelVersion(7, 0), true),
        ])
    func staleHash(kernel: KernelVersion, isCertain: Bool) {
        #expect((receiver(judge([1, 1], kernel, early: true)) == 1) == isCertain)
        #expect(receiver(judge([1, 1], kernel, early: false)) == 1)
    }

    @Test("Families and devices are scored before age, so age cannot be told")
    func mixed() {
        for kernel in [Self.old, Self.new] {
            let families = judge([1, 1], kernel, early: true, families: [AF_INET, AF_INET6])
            #expect(families?.doubt == .arrival)
            let devices = judge([1, 1], kernel, early: true, interfaces: [3, 0])
            #expect(devices?.doubt == .arrival)
            #expect(
                receiver(judge([1, 1], kernel, early: false, families: [AF_INET, AF_INET6])) == 1)
        }
    }

    @Test("Processors that could not be asked leave a doubt, where processors count")
    func unasked() {
        let some = judge([1, 1], of: 4, Self.old, early: false)
        #expect(some?.doubt == .unaskedProcessors)
        #expect(contenders(some) == [1, 2])
        #expect(receiver(judge([1, 1], of: 4, Self.new, early: false)) == 1)
        #expect(judge([1, 1], of: 4, nil, early: false)?.doubt == .unaskedProcessors)
    }

    @Test("Sockets that are gone are not found")
    func gone() {
        #expect(judge([nil, 9], Self.old, early: false) == nil)
        #expect(receiver(judge([1, nil], Self.new, early: false)) == 1)
    }

    @Test(
        "Releases are read by their numbers",
        arguments: [
            ("6.1.0-28-amd64", KernelVersion(6, 1)),
            ("6.12.90+deb13-amd64", KernelVersion(6, 12, 90)),
            ("7.2-rc1", KernelVersion(7, 2)), ("6.18.17", KernelVersion(6, 18, 17)),
        ])
    func releases(text: String, version: KernelVersion) {
        #expect(KernelVersion(release: text) == version)
    }
}
