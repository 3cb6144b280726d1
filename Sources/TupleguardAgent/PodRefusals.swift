// SPDX-License-Identifier: Apache-2.0
// How many connects of each pod were refused, as far as the agent heard of them.

import Synchronization
import TupleguardAgentClient
import TupleguardLinux

/// Counts by pod and container, for as many as were refused last.
final class PodRefusals: Sendable {
    /// A node has 110 pods by default, and each counter is a time series.
    static let limit = 200

    private struct Count {
        var refused: UInt64 = 0
        var last: UInt64 = 0
    }

    private struct Table {
        var counts: [Pod: Count] = [:]
        var heard: UInt64 = 0
    }

    private let table = Mutex(Table())

    func add(_ pod: Pod) {
        table.withLock { table in
            table.heard += 1
            if table.counts[pod] == nil && table.counts.count >= Self.limit {
                let oldest = table.counts.min { $0.value.last < $1.value.last }
                if let oldest { table.counts[oldest.key] = nil }
            }
            table.counts[pod, default: Count()].refused += 1
            table.counts[pod]!.last = table.heard
        }
    }

    var all: [PodCount] {
        table.withLock(\.counts).map { PodCount(pod: $0.key, refused: $0.value.refused) }
            .sorted { ($0.refused, $1.pod.uid) > ($1.refused, $0.pod.uid) }
    }
}
