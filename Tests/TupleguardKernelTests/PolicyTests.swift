// SPDX-License-Identifier: Apache-2.0
// Policies, on their way to the programs and back.

import Glibc
import Testing
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

@testable import TupleguardKernel

private let hierarchy = try? CgroupHierarchy()
private let root = hierarchy.flatMap { try? Cgroup($0.mountPoint, in: $0) }

struct PolicyTests {
    static let all: [Policy] = Policy.Mode.allCases.flatMap { mode in
        Policy.Refusal.allCases.flatMap { refusal in
            Policy.WhenFull.allCases.flatMap { whenFull in
                Policy.LookUp.allCases.flatMap { lookUp in
                    Policy.Discover.allCases.flatMap { discover in
                        Policy.WhenExhausted.allCases.map { whenExhausted in
                            var policy = Policy()
                            policy.mode = mode
                            policy.refusal = refusal
                            policy.whenFull = whenFull
                            policy.lookUp = lookUp
                            // As many as there are of the others: each in turn.
                            policy.outsiders =
                                lookUp == .auto ? .observe : lookUp == .on ? .refuse : .ignore
                            policy.discover = discover
                            policy.whenExhausted = whenExhausted
                            policy.isStrict = discover == .off
                            policy.maxConnections = whenExhausted == .eagain ? 300 : nil
                            return policy
                        }
                    }
                }
            }
        }
    }

    @Test("What nobody asked for")
    func defaults() {
        let policy = Policy()
        #expect(policy.mode == .enforce)
        #expect(policy.refusal == .eperm)
        #expect(policy.whenFull == .allow)
        #expect(policy.lookUp == .auto)
        #expect(policy.outsiders == .observe)
        #expect(policy.discover == .reuseaddr)
        #expect(policy.whenExhausted == .eaddrnotavail)
        #expect(!policy.isStrict)
        #expect(policy.maxConnections == nil)
        #expect(GuardError.tableSizes.contains(Policy.defaultTableSize))
    }

    @Test("The words that people write for a policy are stable")
    func words() {
        #expect(Policy.Mode.allCases.map(\.rawValue) == ["enforce", "observe"])
        #expect(
            Policy.Refusal.allCases.map(\.rawValue) == ["EPERM", "EADDRNOTAVAIL", "EADDRINUSE"])
        #expect(Policy.WhenFull.allCases.map(\.rawValue) == ["allow", "refuse"])
        #expect(Policy.LookUp.allCases.map(\.rawValue) == ["auto", "on", "off"])
        #expect(Policy.Outsiders.allCases.map(\.rawValue) == ["observe", "refuse", "ignore"])
        #expect(Policy.Discover.allCases.map(\.rawValue) == ["off", "reuseaddr", "all"])
        #expect(Policy.WhenExhausted.allCases.map(\.rawValue) == ["EADDRNOTAVAIL", "EAGAIN"])
    }

    @Test("Each refusal has the number of its name")
    func refusals() {
        #expect(Policy.Refusal.eperm.number == EPERM)
        #expect(Policy.Refusal.eaddrnotavail.number == EADDRNOTAVAIL)
        #expect(Policy.Refusal.eaddrinuse.number == EADDRINUSE)
        #expect(Policy.WhenExhausted.eaddrnotavail.number == EADDRNOTAVAIL)
        #expect(Policy.WhenExhausted.eagain.number == EAGAIN)
    }

    @Test(
        "A policy comes back from the programs as it was given to them",
        .enabled(if: root != nil, "no cgroup v2 hierarchy is mounted"), arguments: all)
    func roundTrip(policy: Policy) throws {
        let values = policy.forPrograms(
            cgroup: try #require(root), buckets: 1024, looksUp: policy.lookUp == .on)
        #expect(Policy(fromPrograms: values) == policy)
    }

    @Test(
        "What the programs of the root cgroup read",
        .enabled(if: root != nil, "no cgroup v2 hierarchy is mounted"), arguments: all)
    func forPrograms(policy: Policy) throws {
        let root = try #require(root)
        let before = KernelClock.realTime
        let values = policy.forPrograms(
            cgroup: root, buckets: 1024, looksUp: policy.lookUp == .on)
        #expect(values.attachment == root.id)
        #expect(values.attached_ns >= before)
        #expect(values.grace_ns == 1_000_000_000)
        #expect(values.observe == (policy.mode == .observe ? 1 : 0))
        #expect(values.error == UInt32(policy.refusal.number))
        #expect(values.refuse_when_full == (policy.whenFull == .refuse ? 1 : 0))
        #expect(values.look_up == (policy.lookUp == .on ? 1 : 0))
        #expect(values.look_up_auto == (policy.lookUp == .auto ? 1 : 0))
        #expect(values.outsiders == policy.outsiders.number)
        #expect(values.discover == policy.discover.number)
        #expect(values.exhausted == UInt32(policy.whenExhausted.number))
        #expect(values.table_mask == 1023)
        #expect(values.max_connections == UInt32(policy.maxConnections ?? 0))
        // Half of what is looked through is free.
        #expect(values.connections_mask == (policy.maxConnections == nil ? 0 : 1023))
    }

    @Test("What another hand wrote into the policy is read as something sensible")
    func foreignValues() {
        var values = tg_policy()
        values.observe = 4711
        values.error = UInt32(EXDEV)
        values.refuse_when_full = .max
        values.look_up = 2
        let policy = Policy(fromPrograms: values)
        #expect(policy.mode == .observe)
        #expect(policy.refusal == .eperm)
        #expect(policy.whenFull == .refuse)
        #expect(policy.lookUp == .on)
    }

    @Test("A damaged policy is no reason to crash")
    func damaged() async {
        await #expect(processExitsWith: .success) {
            var values = tg_policy()
            values.error = .max
            guard Policy(fromPrograms: values).refusal == .eperm else { exit(1) }
        }
    }
}

struct BucketCountTests {
    @Test(
        "A power of two, no less than the table and less than twice its size",
        arguments: [
            1, 2, 3, 4, 5, 63, 64, 65, 127, 128, 1000, 1024, 1025, 262_144, (1 << 24) - 1, 1 << 24,
        ])
    func size(tableSize: Int) {
        let buckets = GuardState.buckets(for: tableSize)
        #expect(buckets.nonzeroBitCount == 1)
        #expect(buckets >= tableSize)
        #expect(buckets < 2 * tableSize)
    }

    @Test("Every size that may be asked for fits the programs' mask")
    func bounds() {
        #expect(GuardError.tableSizes.lowerBound >= 1)
        #expect(
            UInt32(exactly: GuardState.buckets(for: GuardError.tableSizes.upperBound) - 1) != nil)
    }
}
