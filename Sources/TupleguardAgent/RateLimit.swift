// SPDX-License-Identifier: Apache-2.0
// How much of one party, one user and all together is heard or logged.

/// So many a second, and after a pause so many at once.
struct Rate: Sendable {
    let perSecond: UInt64
    let burst: UInt64

    /// Nanoseconds in which a token comes back.
    fileprivate var interval: UInt64 { 1_000_000_000 / perSecond }
}

/// A token bucket. When it will be full again is all that it has to remember.
struct TokenBucket: Sendable {
    /// Nanoseconds of the caller's clock, which must not go back.
    private var fullAt: UInt64 = 0

    func isFull(now: UInt64) -> Bool { fullAt <= now }

    func hasToken(_ rate: Rate, now: UInt64) -> Bool {
        max(fullAt, now) - now + rate.interval <= rate.burst * rate.interval
    }

    mutating func take(_ rate: Rate, now: UInt64) {
        fullAt = max(fullAt, now) + rate.interval
    }
}

/// A bucket for each key, in a bounded number. Keys beyond it share one bucket: a
/// crowd of them gets no more than one of them would.
struct TokenBuckets<Key: Hashable & Sendable>: Sendable {
    let rate: Rate
    let limit: Int
    private var buckets: [Key: TokenBucket] = [:]
    private var shared = TokenBucket()
    private var nextPruning: UInt64 = 0

    /// Nanoseconds between two looks through a table without room.
    private static var pruningInterval: UInt64 { 100_000_000 }

    init(_ rate: Rate, limit: Int) {
        self.rate = rate
        self.limit = limit
    }

    var count: Int { buckets.count }

    mutating func hasToken(for key: Key, now: UInt64) -> Bool {
        if let bucket = buckets[key] { return bucket.hasToken(rate, now: now) }
        makeRoom(now: now)
        return buckets.count < limit || shared.hasToken(rate, now: now)
    }

    mutating func take(for key: Key, now: UInt64) {
        if buckets[key] != nil || buckets.count < limit {
            buckets[key, default: TokenBucket()].take(rate, now: now)
        } else {
            shared.take(rate, now: now)
        }
    }

    /// A bucket that is full again is as good as none.
    private mutating func makeRoom(now: UInt64) {
        guard buckets.count >= limit, now >= nextPruning else { return }
        nextPruning = now + Self.pruningInterval
        buckets = buckets.filter { !$0.value.isFull(now: now) }
    }
}

/// The rates of a `LayeredLimit`.
struct LayeredRates: Sendable {
    let party: Rate
    let user: Rate
    let all: Rate

    /// Of notices. A process that gives notice as connectx does stays well below its own; together
    /// they keep what the agent does for notices below a few percent of a processor.
    static let ofNotices = LayeredRates(
        party: Rate(perSecond: 50, burst: 100), user: Rate(perSecond: 200, burst: 400),
        all: Rate(perSecond: 1000, burst: 2000))
}

/// Limits for a party, for a user (who can have many parties: he can fork), and for everybody
/// together (a user with subordinate ids is many users).
struct LayeredLimit<Party: Hashable & Sendable>: Sendable {
    private var parties: TokenBuckets<Party>
    private var users: TokenBuckets<UInt32>
    private var all = TokenBucket()
    private let ofAll: Rate

    /// - Parameter partyLimit: parties that have a bucket of their own, at most.
    init(_ rates: LayeredRates, partyLimit: Int) {
        parties = TokenBuckets(rates.party, limit: partyLimit)
        users = TokenBuckets(rates.user, limit: 1024)
        ofAll = rates.all
    }

    /// Whether one more may pass. One that may not takes nothing from anybody.
    mutating func admit(_ party: Party, ofUser user: UInt32, now: UInt64) -> Bool {
        guard parties.hasToken(for: party, now: now), users.hasToken(for: user, now: now),
            all.hasToken(ofAll, now: now)
        else { return false }
        parties.take(for: party, now: now)
        users.take(for: user, now: now)
        all.take(ofAll, now: now)
        return true
    }
}
