// SPDX-License-Identifier: Apache-2.0
// Translated connections, added up while the kernel tells them.

import Glibc
import TupleguardConntrack
import TupleguardLinux
import TupleguardSockets

/// Counts the ports that source NAT uses for each destination, in memory that does not grow with
/// their number: a node may have a million of them, and few that matter.
///
/// Misra and Gries' summary: when all counters are taken, each loses one, and those at 0 are free
/// again. Whatever has more than one in `limit` of all connections has a counter in the end, and
/// none is short by more than `undercount`.
struct TranslationTally {
    static let limit = 16_384
    private static let busiest = 10

    private struct Key: Hashable {
        let transport: Transport
        let pair: TransportSurvey.Pair
        let zone: UInt16
    }

    private struct Count {
        var used = 0
        var timeWait = 0
        var sample = PortSample()
    }

    private let limit: Int
    private var counts: [Key: Count] = [:]
    private var undercount = 0

    init(limit: Int = Self.limit) {
        self.limit = limit
    }

    mutating func add(_ record: ConntrackRecord) {
        let key = Key(
            transport: record.transport,
            pair: .init(source: record.outer.local.address, remote: record.outer.remote),
            zone: record.zone)
        if counts[key] == nil && counts.count >= limit { makeRoom() }
        guard counts.count < limit || counts[key] != nil else { return }
        counts[key, default: Count()].used += 1
        if record.isTimeWait { counts[key]!.timeWait += 1 }
        counts[key]!.sample.insert(record.outer.local.port)
    }

    private mutating func makeRoom() {
        undercount += 1
        for key in counts.keys { counts[key]!.used -= 1 }
        counts = counts.filter { $0.value.used > 0 }
    }

    /// Several zones are as many tables: the fullest stands for them.
    consuming func finish() -> TranslationSurvey {
        var survey = TranslationSurvey()
        survey.undercount = undercount
        var fullest: [Key: Count] = [:]
        for (key, count) in counts {
            let any = Key(transport: key.transport, pair: key.pair, zone: 0)
            if count.used > fullest[any]?.used ?? 0 { fullest[any] = count }
        }
        survey.destinations = fullest.sorted {
            ($0.value.used, $1.key.pair.remote) > ($1.value.used, $0.key.pair.remote)
        }.prefix(Self.busiest).map { key, count in
            .init(
                transport: key.transport, pair: key.pair, used: count.used,
                timeWait: min(count.used, count.timeWait), sample: count.sample)
        }
        return survey
    }
}

extension TranslationSurvey {
    /// Of the calling thread's network namespace; nil where nothing is tracked: without
    /// nf_conntrack, or before the first rule that asks for it.
    static func current(
        buffer: UnsafeMutableRawBufferPointer, _ proc: Proc = .system
    ) -> TranslationSurvey? {
        guard let tracked = proc.numericSetting("net/netfilter/nf_conntrack_count"), tracked > 0
        else { return nil }
        var survey = TranslationSurvey()
        do throws(Errno) {
            var tally = TranslationTally()
            var conntrack = try Conntrack()
            try conntrack.listTranslated(buffer: buffer) { tally.add($0) }
            survey = tally.finish()
        } catch {
            survey.fault = explain(error)
        }
        survey.tracked = tracked
        survey.limit = proc.numericSetting("net/netfilter/nf_conntrack_max") ?? 0
        return survey
    }

    private static func explain(_ error: Errno) -> String {
        switch error.number {
        case EPERM, EACCES: "\(error): it needs CAP_NET_ADMIN; run it as root (sudo)"
        case EPROTONOSUPPORT, EINVAL, EOPNOTSUPP:
            "\(error): this kernel does not list them: load nf_conntrack_netlink (modprobe), or build it with CONFIG_NF_CT_NETLINK"
        default: "\(error)"
        }
    }
}
