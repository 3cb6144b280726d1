// SPDX-License-Identifier: Apache-2.0
// How much memory this process may have: what its cgroups leave it.

/// The limit of a memory cgroup (memory.max).
package struct MemoryLimit: Sendable {
    /// The cgroup's path in the hierarchy.
    package let cgroup: String
    package let bytes: UInt64

    /// The narrowest of those that apply to this process; nil where there is none.
    package static func narrowest(in hierarchy: CgroupHierarchy) -> MemoryLimit? {
        var folder = hierarchy.ownFolder
        var narrowest: MemoryLimit?
        while folder.count > hierarchy.mountPoint.count {
            let text = contents(of: folder + "/memory.max")?.split(separator: "\n").first
            if let text, let bytes = UInt64(text), bytes < narrowest?.bytes ?? .max {
                narrowest = MemoryLimit(cgroup: hierarchy.relative(folder), bytes: bytes)
            }
            folder = String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)])
        }
        return narrowest
    }
}
