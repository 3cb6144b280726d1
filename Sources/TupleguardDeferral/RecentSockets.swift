// SPDX-License-Identifier: Apache-2.0

/// The sockets whose port was left open last, by cookie: in bounded memory, since nobody says when
/// a socket has been closed.
struct RecentSockets {
    /// How many are remembered at least; at most twice as many.
    static let count = 131_072

    private var newer: Set<UInt64> = []
    private var older: Set<UInt64> = []

    mutating func insert(_ cookie: UInt64) {
        if newer.count == Self.count {
            older = newer
            newer.removeAll(keepingCapacity: true)
        }
        newer.insert(cookie)
    }

    func contains(_ cookie: UInt64) -> Bool { newer.contains(cookie) || older.contains(cookie) }

    mutating func remove(_ cookie: UInt64) {
        newer.remove(cookie)
        older.remove(cookie)
    }
}
