// SPDX-License-Identifier: Apache-2.0
// Since when tuples have had several sockets, as far as anybody has looked.

/// When each of the tuples with several sockets was seen first, in nanoseconds since 1970.
package struct ShadowHistory {
    private var firstSeen: [Set<UInt64>: UInt64] = [:]

    package init() {}

    /// Takes in what there is now, and forgets what is over.
    ///
    /// - Parameter earlier: when others, such as an agent, saw tuples first, by the cookies of
    ///   their sockets.
    package mutating func update(
        _ shadows: [Shadow], now: UInt64, earlier: [Set<UInt64>: UInt64] = [:]
    ) {
        var next: [Set<UInt64>: UInt64] = [:]
        for shadow in shadows {
            let key = shadow.cookies
            let seen = firstSeen[key] ?? now
            next[key] = min(seen, earlier[key] ?? seen)
        }
        firstSeen = next
    }

    package func firstSeen(_ shadow: Shadow) -> UInt64? { firstSeen[shadow.cookies] }
}
