// SPDX-License-Identifier: Apache-2.0
// Source addresses that the routing table gave, for as long as they can be relied on.

import TupleguardSockets

/// What was asked of the routing table in the last hundredth of a second, with its answers.
///
/// Asking costs 3 us, a sixth of a connection. Routes may change meanwhile, and a server that
/// connects without a break would never see that: so an answer is given up with its time, or when a
/// connection fails that relied on it (`Wish.connect`).
struct RecentSources: ~Copyable {
    private struct Answer {
        let question: RouteQuestion
        let source: IPAddress
        let askedAt: UInt64
    }

    /// Room for as many destinations as are taken in turn (`FreePorts.limit`); a destination has
    /// one place, and those that share it displace each other.
    private var answers: UnsafeMutablePointer<Answer?>?
    private static let limit = FreePorts.limit
    private static let validityNanoseconds: UInt64 = 10_000_000

    deinit {
        // Nothing in it needs to be given back.
        answers?.deallocate()
    }

    func find(_ question: RouteQuestion, now: UInt64) -> IPAddress? {
        guard let answer = answers?[Self.place(of: question)],
            now &- answer.askedAt < Self.validityNanoseconds, answer.question == question
        else { return nil }
        return answer.source
    }

    mutating func keep(_ source: IPAddress, for question: RouteQuestion, now: UInt64) {
        if answers == nil {
            let made = UnsafeMutablePointer<Answer?>.allocate(capacity: Self.limit)
            made.initialize(repeating: nil, count: Self.limit)
            answers = made
        }
        answers![Self.place(of: question)] = Answer(
            question: question, source: source, askedAt: now)
    }

    private static func place(of question: RouteQuestion) -> Int {
        let remote = question.destination.endpoint
        let mixed = (remote.address.high ^ remote.address.low ^ UInt64(remote.port) << 48)
        // The upper bits of the product depend on all bits (Fibonacci hashing).
        return Int((mixed &* 0x9e37_79b9_7f4a_7c15) >> 32) % limit
    }
}
