// SPDX-License-Identifier: Apache-2.0
// Telling the agent, if one runs, what was refused, lost or used up here.

import CTupleguardLinux

#if !hasFeature(Embedded)
    import Glibc
    import TupleguardSockets
#endif

/// Sends reports to the agent's socket: best effort, without waiting, and few.
struct Reporter {
    /// A report costs about 4 us; more than so many in a second are counted in the next one.
    private static let perSecond = 20

    private var second: UInt64 = 0
    private var sent = 0
    private var withheld: (UInt32, UInt32, UInt32) = (0, 0, 0)

    mutating func send(
        _ kind: UserspaceReport.Kind, _ transport: UserspaceReport.Transport, _ tuple: FourTuple,
        now: UInt64
    ) {
        let second = now / 1_000_000_000
        if second != self.second {
            self.second = second
            sent = 0
        }
        let count = withheld(kind) &+ 1
        guard sent < Self.perSecond else { return withhold(kind, count) }
        sent += 1
        withhold(kind, 0)
        var bytes = UserspaceReport(kind: kind, transport: transport, tuple: tuple, count: count)
            .bytes
        let hasRoom = withUnsafeBytes(of: &bytes) { linux_report($0.baseAddress, $0.count) }
        if !hasRoom { withhold(kind, count) }
    }

    private func withheld(_ kind: UserspaceReport.Kind) -> UInt32 {
        switch kind {
        case .conflict: withheld.0
        case .lostRace: withheld.1
        case .exhausted: withheld.2
        }
    }

    private mutating func withhold(_ kind: UserspaceReport.Kind, _ count: UInt32) {
        switch kind {
        case .conflict: withheld.0 = count
        case .lostRace: withheld.1 = count
        case .exhausted: withheld.2 = count
        }
    }
}
