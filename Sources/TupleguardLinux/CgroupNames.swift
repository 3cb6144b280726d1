// SPDX-License-Identifier: Apache-2.0
// What cgroups are called that are known by their ids.

import Synchronization

/// Paths of cgroups by id, each looked up once, and remembered when the cgroup is gone.
package final class CgroupNames: Sendable {
    /// Those that were asked for last are remembered: so many at least, and twice as many at most.
    package static let limit = 8192

    private struct Memory {
        var recent: [UInt64: String?] = [:]
        var older: [UInt64: String?] = [:]
    }

    private let hierarchy: CgroupHierarchy?
    private let memory = Mutex(Memory())

    package init(_ hierarchy: CgroupHierarchy? = try? CgroupHierarchy()) {
        self.hierarchy = hierarchy
    }

    package func path(of id: UInt64) -> String? {
        if id == 0 { return nil }
        return memory.withLock { memory in
            if let path = memory.recent[id] { return path }
            let path = memory.older[id] ?? hierarchy?.path(of: id)
            if memory.recent.count >= Self.limit {
                memory.older = memory.recent
                memory.recent = [:]
            }
            memory.recent[id] = .some(path)
            return path
        }
    }

    /// All that are remembered.
    package var paths: [UInt64: String] {
        memory.withLock { $0.older.merging($0.recent) { $1 } }.compactMapValues(\.self)
    }
}
