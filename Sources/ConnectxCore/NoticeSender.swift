// SPDX-License-Identifier: Apache-2.0
// Telling the agent, if one runs, what was refused, lost or used up here.

import CConnectx
import TupleguardSockets

/// Sends notices to the agent's socket: best effort, without waiting, and few.
struct NoticeSender {
    /// A notice costs about 4 us; more than so many in a second are counted in the next one.
    private static let perSecond = 20

    private var second: UInt64 = 0
    private var sent = 0
    private var withheld: (UInt32, UInt32, UInt32) = (0, 0, 0)

    mutating func send(
        _ kind: Notice.Kind, _ transport: Transport, _ tuple: FourTuple,
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
        var bytes = Notice(kind: kind, transport: transport, tuple: tuple, count: count)
            .bytes
        let hasRoom = withUnsafeBytes(of: &bytes) { connectx_send_notice($0.baseAddress, $0.count) }
        if !hasRoom { withhold(kind, count) }
    }

    private func withheld(_ kind: Notice.Kind) -> UInt32 {
        switch kind {
        case .conflict: withheld.0
        case .lostRace: withheld.1
        case .exhausted: withheld.2
        }
    }

    private mutating func withhold(_ kind: Notice.Kind, _ count: UInt32) {
        switch kind {
        case .conflict: withheld.0 = count
        case .lostRace: withheld.1 = count
        case .exhausted: withheld.2 = count
        }
    }
}
