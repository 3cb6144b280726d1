// SPDX-License-Identifier: Apache-2.0
// How one guarded cgroup behaves.

import Glibc
import TupleguardABI
import TupleguardLinux

/// How the guard of one cgroup behaves.
package struct Policy: Hashable, Sendable {
    package enum Mode: String, CaseIterable, Sendable {
        /// Conflicts are refused.
        case enforce
        /// Conflicts are counted and reported, and let through.
        case observe
    }

    /// What connect() gives to a program that is refused.
    package enum Refusal: String, CaseIterable, Sendable {
        case eperm = "EPERM"
        case eaddrnotavail = "EADDRNOTAVAIL"
        case eaddrinuse = "EADDRINUSE"

        var number: Int32 {
            switch self {
            case .eperm: EPERM
            case .eaddrnotavail: EADDRNOTAVAIL
            case .eaddrinuse: EADDRINUSE
            }
        }
    }

    package enum WhenFull: String, CaseIterable, Sendable {
        /// Connects are let through without a claim, and counted.
        case allow
        /// Connects are refused, and counted.
        case refuse
    }

    /// Whether each new claim is also looked up among the sockets outside the cgroup.
    package enum LookUp: String, CaseIterable, Sendable {
        /// On only where outsiders are wanted and nothing can be attached to the root cgroup.
        case auto
        case on
        case off
    }

    /// For which sockets that connect without a port the guard chooses one.
    ///
    /// Never in the mode `observe`: it changes nothing for programs.
    package enum Discover: String, CaseIterable, Sendable {
        /// For none: the kernel chooses.
        case off
        /// For those that have set SO_REUSEADDR or SO_REUSEPORT, which are ready to share a port.
        case reuseaddr
        /// For all; SO_REUSEADDR is then set for them.
        case all

        var number: UInt32 {
            switch self {
            case .off: TG_DISCOVER_OFF.rawValue
            case .reuseaddr: TG_DISCOVER_REUSEADDR.rawValue
            case .all: TG_DISCOVER_ALL.rawValue
            }
        }
    }

    /// What connect() gives where every local port is taken for a destination.
    package enum WhenExhausted: String, CaseIterable, Sendable {
        case eaddrnotavail = "EADDRNOTAVAIL"
        /// What the kernel itself gives when it has no port left.
        case eagain = "EAGAIN"

        var number: Int32 {
            switch self {
            case .eaddrnotavail: EADDRNOTAVAIL
            case .eagain: EAGAIN
            }
        }
    }

    package var mode: Mode = .enforce
    package var refusal: Refusal = .eperm
    package var whenFull: WhenFull = .allow
    package var outsiders: Outsiders = .observe
    package var lookUp: LookUp = .auto
    package var discover: Discover = .reuseaddr
    package var whenExhausted: WhenExhausted = .eaddrnotavail
    /// Nothing is taken on trust: every socket without a port gets one that is chosen, locked and
    /// claimed, whatever `discover` says, and a port that could still change is refused.
    package var isStrict = false
    /// The ports that outgoing connections take their source ports from, TCP and UDP, and that no
    /// other guarded cgroup is given; nil: those that the kernel chooses from.
    package var ports: ClosedRange<UInt16>?

    /// Connections that the cgroup may have open at one time, TCP and UDP; nil: any number.
    package var maxConnections: Int?

    package init() {}

    /// Claims that can be held at once, when nothing else is asked for.
    package static let defaultTableSize = 262_144

    /// How long a claim may wait for its connect before another may take it
    /// over. A connect takes microseconds; this covers one that waits for a processor.
    static let graceNanoseconds: UInt64 = 1_000_000_000

    /// As above; tests shorten it rather than wait.
    var graceNanoseconds = Self.graceNanoseconds

    /// As the programs read it.
    ///
    /// - Parameter looksUp: what `lookUp` comes to.
    func forPrograms(cgroup: Cgroup, buckets: Int, looksUp: Bool) -> tg_policy {
        var policy = tg_policy()
        policy.attachment = cgroup.id
        policy.attached_ns = KernelClock.realTime
        policy.grace_ns = graceNanoseconds
        policy.secret = .random(in: .min ... .max)
        policy.observe = mode == .observe ? 1 : 0
        policy.error = UInt32(refusal.number)
        policy.refuse_when_full = whenFull == .refuse ? 1 : 0
        policy.look_up = looksUp ? 1 : 0
        policy.look_up_auto = lookUp == .auto ? 1 : 0
        policy.table_mask = UInt32(buckets - 1)
        policy.discover = discover.number
        policy.exhausted = UInt32(whenExhausted.number)
        policy.strict = isStrict ? 1 : 0
        policy.outsiders = outsiders.number
        policy.first_port = ports?.lowerBound ?? 0
        policy.last_port = ports?.upperBound ?? 0
        ConnectionBudget.write(maxConnections, to: &policy)
        return policy
    }

    /// What the programs of the version before were given.
    init(fromOlderPrograms older: tg_policy_abi3) {
        var policy = tg_policy()
        policy.grace_ns = older.grace_ns
        policy.observe = older.observe
        policy.error = older.error
        policy.refuse_when_full = older.refuse_when_full
        policy.look_up = older.look_up
        policy.look_up_auto = older.look_up_auto
        policy.discover = older.discover
        policy.exhausted = older.exhausted
        policy.strict = older.strict
        policy.outsiders = older.outsiders
        self.init(fromPrograms: policy)
    }

    /// What an attached guard's programs were given.
    init(fromPrograms policy: tg_policy) {
        mode = policy.observe != 0 ? .observe : .enforce
        refusal = Refusal.allCases.first { UInt32($0.number) == policy.error } ?? .eperm
        whenFull = policy.refuse_when_full != 0 ? .refuse : .allow
        graceNanoseconds = policy.grace_ns
        lookUp = policy.look_up_auto != 0 ? .auto : policy.look_up != 0 ? .on : .off
        outsiders = Outsiders.allCases.first { $0.number == policy.outsiders } ?? .ignore
        discover = Discover.allCases.first { $0.number == policy.discover } ?? .off
        whenExhausted =
            WhenExhausted.allCases.first { UInt32($0.number) == policy.exhausted } ?? .eaddrnotavail
        isStrict = policy.strict != 0
        ports =
            policy.first_port > 0 && policy.first_port <= policy.last_port
            ? policy.first_port...policy.last_port : nil
        maxConnections = policy.max_connections > 0 ? Int(policy.max_connections) : nil
    }
}
