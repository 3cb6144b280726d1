// SPDX-License-Identifier: Apache-2.0
// What cgroups are called that are known by their ids.

/// Paths of cgroups by id, each looked up once; a bounded number is remembered.
package final class CgroupNames {
    private let hierarchy: CgroupHierarchy?
    private var known: [UInt64: String?] = [:]

    package init() {
        hierarchy = try? CgroupHierarchy()
    }

    package func path(of id: UInt64) -> String? {
        if id == 0 { return nil }
        if let path = known[id] { return path }
        let path = hierarchy?.path(of: id)
        if known.count >= 1024 { known = [:] }
        known[id] = path
        return path
    }
}
