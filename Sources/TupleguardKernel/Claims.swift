// SPDX-License-Identifier: Apache-2.0
// The claims in the table: which socket has which tuple.

import TupleguardABI
package import TupleguardRecords
package import TupleguardSockets

extension FourTuple {
    init(_ tuple: tg_tuple) {
        self.init(
            local: Endpoint(IPAddress(networkWords: tuple.local), tuple.local_port),
            remote: Endpoint(IPAddress(networkWords: tuple.remote), tuple.remote_port))
    }
}

/// A live claim: one socket's title to one tuple.
package struct Claim: Sendable {
    /// Its local address is unspecified where the socket is bound to no address.
    package let tuple: FourTuple
    /// Low half of the network namespace's cookie (SO_NETNS_COOKIE).
    package let networkNamespace: UInt32
    /// The socket's cookie (SO_COOKIE).
    package let cookie: UInt64
    package let since: Timestamp
    /// The process that claimed it, in the initial PID namespace; 0 when it is not known.
    package let pid: Int32
    /// The first 15 bytes of the connecting thread's name, unprintable ones as "?".
    package let command: String
}

extension GuardState {
    /// Every claim there is.
    package func claims() throws -> [Claim] {
        var claims: [Claim] = []
        try forEachClaim { tuple, claim in claims.append(Claim(tuple(), claim)) }
        return claims
    }

    /// How many claims there are.
    package func claimCount() throws -> Int {
        var count = 0
        try forEachClaim { _, _ in count += 1 }
        return count
    }

    /// - Parameter body: gets the tuple as a function, for whoever does not need it.
    func forEachClaim(_ body: (_ tuple: () -> tg_tuple, tg_claim) throws -> Void) throws {
        try forEachGroup { key, group in
            guard group.word & UInt64(TG_WORD_INLINE) != 0 else { return }
            func tuple() -> tg_tuple {
                tg_tuple(
                    netns: key.netns, local_port: key.local_port, remote_port: key.remote_port,
                    remote: key.remote, local: group.source)
            }
            try body(tuple, group.claim)
        }
        try open(.claimsMore).forEach(tg_tuple.self, tg_further.self) { tuple, further in
            if further.word != 0 { try body({ tuple }, further.claim) }
        }
    }

    /// Every group that is in a bucket or in the hash map behind the buckets.
    private func forEachGroup(_ body: (tg_group_key, tg_group) throws -> Void) throws {
        try open(.buckets).forEach(UInt32.self, tg_bucket.self) { _, bucket in
            guard bucket.control & UInt64(TG_BUCKET_STATE) == UInt64(TG_BUCKET_USED) else { return }
            try body(bucket.key, bucket.group)
        }
        try open(.groups).forEach(tg_group_key.self, tg_group.self, body)
    }
}

extension Claim {
    init(_ tuple: tg_tuple, _ claim: tg_claim) {
        self.init(
            tuple: FourTuple(tuple), networkNamespace: tuple.netns, cookie: claim.cookie,
            since: Timestamp(monotonic: claim.time_ns), pid: Int32(bitPattern: claim.pid),
            command: claim.command)
    }
}

extension tg_claim {
    var command: String { withUnsafeBytes(of: comm) { commandName($0) } }
}
