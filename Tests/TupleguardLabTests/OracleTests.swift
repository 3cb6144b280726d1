// SPDX-License-Identifier: Apache-2.0
// The judgement on sockets, and the arithmetic.

import Testing
import TupleguardSockets

@testable import TupleguardLab

@Suite struct OracleTests {
    private func tuple(_ local: String, _ remote: String = "127.0.0.1:7001") -> FourTuple {
        FourTuple(local: Endpoint(local)!, remote: Endpoint(remote)!)
    }

    @Test func countsThoseBeyondTheFirstOfEachTuple() {
        #expect(overshadowed(among: []) == 0)
        #expect(overshadowed(among: [tuple("127.0.0.1:1"), tuple("127.0.0.1:2")]) == 0)
        #expect(
            overshadowed(among: [
                tuple("127.0.0.1:1"), tuple("127.0.0.1:1"), tuple("127.0.0.1:1"),
                tuple("127.0.0.1:2"), tuple("127.0.0.1:2"),
            ]) == 3)
    }

    @Test func oneSourceToTwoDestinationsIsNoConflict() {
        #expect(
            overshadowed(among: [
                tuple("127.0.0.1:1"), tuple("127.0.0.1:1", "127.0.0.1:7002"),
            ]) == 0)
    }

    /// IPv4 and v4-mapped are one tuple to the kernel.
    @Test func mappedAddressesAreTheSame() {
        #expect(
            overshadowed(among: [
                tuple("127.0.0.1:1"), tuple("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:7001"),
            ]) == 1)
    }

    @Test(arguments: [(0.5, 1.0 / 256), (0.1, 1e-8), (0.01, 1e-16), (0.0, 0.0), (1.0, 1.0)])
    func eightAttemptsCollide(_ probability: Double, _ all: Double) {
        let computed = allCollide(probability: probability, attempts: 8)
        #expect(abs(computed - all) <= all * 1e-9)
    }

    /// Of the ports that bind() chooses among, every second one of the lower half, exactly so
    /// many are busy.
    @Test(arguments: RetryTable.percentages)
    func busyPortsAreSpreadEvenly(_ percent: Int) {
        for parity in [0, 1] {
            let candidates = stride(from: parity, to: 200, by: 2)
            let busy = candidates.filter { RetryTable.isBusy($0, percent: percent) }
            #expect(busy.count == percent)
        }
    }
}

@Suite struct ProportionTests {
    /// Against values from the textbook's formula, computed elsewhere.
    @Test(arguments: [
        (10, 100, 0.0552, 0.1744), (50, 100, 0.4038, 0.5962), (1, 1000, 0.00018, 0.00564),
        (0, 100, 0, 0.0370), (100, 100, 0.9630, 1), (0, 1_000_000, 0, 0.00000384),
    ])
    func intervals(_ count: Int, _ trials: Int, _ low: Double, _ high: Double) {
        let interval = Proportion(count, of: trials).interval
        #expect(abs(interval.lowerBound - low) < 0.0001)
        #expect(abs(interval.upperBound - high) < max(0.000_000_01, high * 0.002))
    }

    @Test func withoutTrialsEverythingIsPossible() {
        #expect(Proportion().share == nil)
        #expect(Proportion().interval == 0...1)
    }

    @Test func whatHappenedIsCounted() {
        var proportion = Proportion()
        for number in 0..<8 { proportion.add(number % 4 == 0) }
        #expect(proportion.count == 2 && proportion.trials == 8)
        #expect(proportion.share == 0.25)
    }
}

@Suite struct RowTests {
    @Test func namesAreDifferentAndBeginWithTheirGroup() {
        #expect(Set(Row.all.map(\.name)).count == Row.all.count)
        #expect(Set(Row.all.map(\.group)) == ["tcp", "udp", "unix", "retry", "fill", "cost"])
    }

    @Test func onlyTheHooksNeedBPF() {
        #expect(
            Row.all.filter { $0.hook != nil }.map(\.name) == [
                "udp-look-up", "udp-guard", "udp-guard-discover", "fill-guard", "cost-look-up",
                "cost-guard",
            ])
    }
}

@Suite struct NamespaceTests {
    @Test(arguments: [
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("user/max_user_namespaces", "0"),
    ])
    func refusalNamesTheSetting(_ name: String, _ value: String) {
        let text = LabNamespace.refusal(Errno(1)) { $0 == name ? value : nil }
        let sysctl = name.split(separator: "/").joined(separator: ".")
        #expect(text.contains("\(sysctl) = \(value)"))
        #expect(text.contains("EPERM"))
        #expect(text.contains("sudo"))
    }

    @Test func refusalWithoutASettingNamesTheOtherSuspects() {
        #expect(LabNamespace.refusal(Errno(1)) { _ in nil }.contains("seccomp"))
    }
}
