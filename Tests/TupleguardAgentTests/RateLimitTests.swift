// SPDX-License-Identifier: Apache-2.0
// How much is heard of whom, on a clock that the tests turn.

import Testing

@testable import TupleguardAgent

private let second: UInt64 = 1_000_000_000

struct TokenBucketTests {
    private let rate = Rate(perSecond: 10, burst: 5)

    /// Takes as many as there are.
    private func drain(_ bucket: inout TokenBucket, now: UInt64) -> Int {
        var count = 0
        while bucket.hasToken(rate, now: now), count < 1000 {
            bucket.take(rate, now: now)
            count += 1
        }
        return count
    }

    @Test("A burst at once, and no more", arguments: [0, 1, second, 100_000 * second])
    func burst(now: UInt64) {
        var bucket = TokenBucket()
        #expect(bucket.isFull(now: now))
        #expect(drain(&bucket, now: now) == 5)
        #expect(!bucket.isFull(now: now))
        #expect(drain(&bucket, now: now) == 0)
    }

    @Test("Then as many as the rate gives, up to a burst again")
    func refill() {
        var bucket = TokenBucket()
        let start = 7 * second
        #expect(drain(&bucket, now: start) == 5)
        #expect(drain(&bucket, now: start + second / 10 - 1) == 0)
        #expect(drain(&bucket, now: start + second / 10) == 1)
        #expect(drain(&bucket, now: start + second / 2) == 4)
        #expect(drain(&bucket, now: start + 1000 * second) == 5)
    }

    @Test("Over a long time exactly the rate, whatever the pattern")
    func longRun() {
        var bucket = TokenBucket()
        var count = 0
        for step in 0..<10_000 { count += drain(&bucket, now: UInt64(step) * second / 100) }
        // 100 seconds, less the last step, and what it began with.
        #expect(count == 5 + 999)
    }

    @Test("Full again when all has come back")
    func full() {
        var bucket = TokenBucket()
        _ = drain(&bucket, now: second)
        #expect(!bucket.isFull(now: second + second / 2 - 1))
        #expect(bucket.isFull(now: second + second / 2))
    }
}

struct TokenBucketsTests {
    private func takes(_ buckets: inout TokenBuckets<Int>, _ key: Int, now: UInt64) -> Bool {
        guard buckets.hasToken(for: key, now: now) else { return false }
        buckets.take(for: key, now: now)
        return true
    }

    @Test("Each key has its own")
    func apart() {
        var buckets = TokenBuckets<Int>(Rate(perSecond: 1, burst: 2), limit: 10)
        #expect(
            (0..<5).map { _ in takes(&buckets, 1, now: 0) } == [true, true, false, false, false])
        #expect((0..<3).map { _ in takes(&buckets, 2, now: 0) } == [true, true, false])
    }

    @Test("There are so many; a crowd beyond them gets what one of them would")
    func bounded() {
        var buckets = TokenBuckets<Int>(Rate(perSecond: 1, burst: 2), limit: 10)
        for key in 0..<10 { #expect(takes(&buckets, key, now: 0)) }
        let crowd = (10..<100_000).count { takes(&buckets, $0, now: 0) }
        #expect(crowd == 2)
        #expect(buckets.count == 10)
        // Who was there first still has his.
        for key in 0..<10 { #expect(takes(&buckets, key, now: 0)) }
    }

    @Test("Buckets that are full again make room")
    func pruned() {
        var buckets = TokenBuckets<Int>(Rate(perSecond: 1, burst: 2), limit: 10)
        for key in 0..<10 { #expect(takes(&buckets, key, now: 0)) }
        #expect(takes(&buckets, 3, now: second))
        for key in 100..<109 { #expect(takes(&buckets, key, now: second + 1)) }
        #expect(buckets.count == 10)
        // The one that was not full has kept what it took.
        #expect(takes(&buckets, 3, now: second + 2))
        #expect(!takes(&buckets, 3, now: second + 3))
    }

    @Test("A table without room is looked through ten times a second")
    func lookedThrough() {
        // Each bucket is full again after ten milliseconds.
        var buckets = TokenBuckets<Int>(Rate(perSecond: 100, burst: 2), limit: 10)
        for key in 0..<11 { #expect(takes(&buckets, key, now: 0)) }
        _ = buckets.hasToken(for: 11, now: second / 10 - 1)
        #expect(buckets.count == 10)
        _ = buckets.hasToken(for: 11, now: second / 10)
        #expect(buckets.count == 0)
    }
}

struct LayeredLimitTests {
    private func admitted(
        _ limits: inout LayeredLimit<Sender>, _ count: Int, now: UInt64, _ sender: (Int) -> Sender
    ) -> Int {
        (0..<count).count {
            let sender = sender($0)
            return limits.admit(sender, ofUser: sender.uid, now: now)
        }
    }

    @Test("A process that floods takes nothing from another, of the same user or not")
    func process() {
        var limits = LayeredLimit<Sender>(.ofNotices, partyLimit: 4096)
        let burst = Int(LayeredRates.ofNotices.party.burst)
        #expect(admitted(&limits, 100_000, now: 0) { _ in Sender(pid: 1, uid: 1) } == burst)
        #expect(admitted(&limits, 20, now: 0) { _ in Sender(pid: 2, uid: 1) } == 20)
        #expect(admitted(&limits, 20, now: 0) { _ in Sender(pid: 3, uid: 2) } == 20)
    }

    @Test("A user who forks takes nothing from another")
    func user() {
        var limits = LayeredLimit<Sender>(.ofNotices, partyLimit: 4096)
        let burst = Int(LayeredRates.ofNotices.user.burst)
        let forks = admitted(&limits, 100_000, now: 0) { Sender(pid: Int32($0), uid: 1) }
        #expect(forks == burst)
        #expect(admitted(&limits, 20, now: 0) { _ in Sender(pid: 1, uid: 2) } == 20)
    }

    @Test("Many users together have a limit as well")
    func everybody() {
        var limits = LayeredLimit<Sender>(.ofNotices, partyLimit: 4096)
        let burst = Int(LayeredRates.ofNotices.all.burst)
        let sender: (Int) -> Sender = { Sender(pid: Int32($0), uid: UInt32($0 % 500)) }
        #expect(admitted(&limits, 100_000, now: 0, sender) == burst)
        let perSecond = Int(LayeredRates.ofNotices.all.perSecond)
        #expect(admitted(&limits, 100_000, now: second, sender) == perSecond)
    }
}
