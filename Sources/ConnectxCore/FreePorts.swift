// SPDX-License-Identifier: Apache-2.0
// Ports that a listing showed to be free for a destination, until they are used up.

import TupleguardSockets

/// A source address, a device and a destination: what a port is free for.
struct PortPurpose: Equatable {
    let local: IPAddress
    let interface: UInt32
    let remote: Endpoint
}

/// The free ports for the destinations that were listed last.
///
/// A listing costs as much as there are sockets on the host. In a batch of connections to one
/// destination its answer serves them all. Hints only: a port is always tried before it is used.
struct FreePorts: ~Copyable {
    private struct List: ~Copyable {
        let purpose: PortPurpose
        var ports: PortSet
        let madeAt: UInt64
    }

    /// Room for `limit` lists of 8 KB, of which the first `count` are there.
    private var lists: UnsafeMutablePointer<List>?
    private var count = 0
    /// The oldest, once all are there.
    private var next = 0
    /// As many destinations as are taken in turn for one service (127.0.0.1 to 127.0.0.254): with
    /// fewer lists, each would be made anew for every connection.
    static let limit = 256
    /// How long a list serves, in nanoseconds: ports that came free since are not in it.
    private static let validity: UInt64 = 1_000_000_000

    deinit {
        guard let lists else { return }
        lists.deinitialize(count: count)
        lists.deallocate()
    }

    /// Takes the first port at or after `start` off the list; nil when there is no list, or it
    /// is used up or old.
    func take(for purpose: PortPurpose, from start: UInt16, now: UInt64) -> UInt16? {
        guard let lists, let index = index(of: purpose),
            now &- lists[index].madeAt <= Self.validity,
            let port = lists[index].ports.next(from: start)
        else { return nil }
        lists[index].ports.remove(port)
        return port
    }

    /// Keeps a list; one for the same purpose, or the oldest, makes way.
    mutating func keep(_ ports: consuming PortSet, for purpose: PortPurpose, now: UInt64) {
        let lists = lists ?? .allocate(capacity: Self.limit)
        self.lists = lists
        let list = List(purpose: purpose, ports: ports, madeAt: now)
        if let index = index(of: purpose) {
            lists[index] = list
        } else if count < Self.limit {
            (lists + count).initialize(to: list)
            count += 1
        } else {
            lists[next] = list
            next = (next + 1) % Self.limit
        }
    }

    private func index(of purpose: PortPurpose) -> Int? {
        guard let lists else { return nil }
        for index in 0..<count where lists[index].purpose == purpose { return index }
        return nil
    }
}
