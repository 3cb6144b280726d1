// SPDX-License-Identifier: Apache-2.0
// The problem itself: two connected UDP sockets on one 4-tuple, and which of them receives.

import Glibc
package import TupleguardSockets

/// What came of two sockets that went for one 4-tuple on the loopback interface.
package struct Overshadowing: Encodable, Sendable {
    /// The families of the two sockets.
    package enum Families: String, CaseIterable, Sendable {
        case v4 = "4"
        case v6 = "6"
        /// The first socket is IPv4, the second IPv6 with v4-mapped addresses.
        case mixed

        fileprivate var first: Int32 { self == .v6 ? AF_INET6 : AF_INET }
        fileprivate var second: Int32 { self == .v4 ? AF_INET : AF_INET6 }
        fileprivate var address: IPAddress {
            self == .v6 ? .loopback6 : IPAddress(v4: 127, 0, 0, 1)
        }
    }

    package let tuple: FourTuple
    /// How the second connect() was refused; nil when it succeeded.
    package let refusal: Errno?
    /// Datagrams that the other side sent to the tuple.
    package let sent: Int
    package let receivedByFirst: Int
    package let receivedBySecond: Int

    /// The socket that lost its traffic: "first", "second", or "both" when each got a part; nil
    /// when the second connect() was refused.
    package var loser: String? {
        if refusal != nil { return nil }
        return receivedByFirst == 0 ? "first" : receivedBySecond == 0 ? "second" : "both"
    }

    private static let datagrams = 10

    /// Needs no privilege, and changes nothing.
    ///
    /// - Parameter whenFirstConnects: called with the tuple before the first socket connects.
    package init(_ families: Families, whenFirstConnects: (FourTuple) -> Void) throws {
        let server = try UDPSocket(family: families.first, bound: Endpoint(families.address, 0))
        let first = try UDPSocket(family: families.first, bound: Endpoint(families.address, 0))
        tuple = FourTuple(local: try first.localName(), remote: try server.localName())
        whenFirstConnects(tuple)
        try first.connect(to: tuple.remote)
        let second = try UDPSocket(family: families.second, bound: tuple.local)
        var refusal: Errno?
        do {
            try second.connect(to: tuple.remote)
        } catch {
            refusal = error
        }
        for number in 1...Self.datagrams { try server.send("answer \(number)", to: tuple.local) }
        var received = (first: 0, second: 0)
        // Loopback delivers at once, or, on a busy machine, nearly so.
        for _ in 0..<100 where received.first + received.second < Self.datagrams {
            received.first += first.receiveAll()
            if refusal == nil { received.second += second.receiveAll() }
            if received.first + received.second < Self.datagrams { usleep(10_000) }
        }
        self.refusal = refusal
        sent = Self.datagrams
        receivedByFirst = received.first
        receivedBySecond = received.second
    }

    private enum CodingKeys: CodingKey {
        case local, remote, refused, errno, sent, receivedByFirst, receivedBySecond, overshadowed
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(tuple.local.description, forKey: .local)
        try container.encode(tuple.remote.description, forKey: .remote)
        try container.encode(refusal != nil, forKey: .refused)
        try container.encodeIfPresent(refusal?.name, forKey: .errno)
        try container.encode(sent, forKey: .sent)
        try container.encode(receivedByFirst, forKey: .receivedByFirst)
        try container.encode(receivedBySecond, forKey: .receivedBySecond)
        try container.encodeIfPresent(loser, forKey: .overshadowed)
    }
}
