// SPDX-License-Identifier: Apache-2.0
// Those who follow the events, a line of JSON each.

import Synchronization

/// Those who follow the events: each gets the lines as they come.
final class Followers: Sendable {
    static let limit = 16
    typealias Sink = @Sendable (String) -> Void

    private let sinks = Mutex<[UInt64: Sink]>([:])
    private let next = Atomic<UInt64>(0)

    /// Nil when there are too many already.
    func add(_ sink: @escaping Sink) -> UInt64? {
        let id = next.wrappingAdd(1, ordering: .relaxed).newValue
        return sinks.withLock { sinks in
            guard sinks.count < Self.limit else { return nil }
            sinks[id] = sink
            return id
        }
    }

    func remove(_ id: UInt64) {
        _ = sinks.withLock { $0.removeValue(forKey: id) }
    }

    var isEmpty: Bool { sinks.withLock { $0.isEmpty } }

    func send(_ line: String) {
        for sink in sinks.withLock({ Array($0.values) }) { sink(line) }
    }
}
