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

@Suite struct RowTests {
    @Test func namesAreDifferentAndBeginWithTheirGroup() {
        #expect(Set(Row.all.map(\.name)).count == Row.all.count)
        #expect(Set(Row.all.map(\.group)) == ["tcp", "udp", "unix", "retry"])
    }

    @Test func onlyTheHooksNeedBPF() {
        #expect(
            Row.all.filter { $0.hook != nil }.map(\.name) == [
                "udp-look-up", "udp-guard", "udp-guard-discover",
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
