// SPDX-License-Identifier: Apache-2.0
// Guards of commands that were killed before they could take them off again.

import TupleguardLinux

extension GuardState {
    /// Removes what runs of the command left behind that were killed before they could tidy up.
    ///
    /// - Parameter hasAgent: whether an agent looks after the state. Without one nobody else ends
    ///   attachments whose cgroup is gone, as when a run with another state removed it.
    package func removeAbandonedRuns(hasAgent: Bool) {
        guard let hierarchy = try? CgroupHierarchy() else { return }
        for attachment in (try? attachments()) ?? [] {
            guard let path = attachment.path else {
                if !hasAgent { try? detach(attachment.id, path: "cgroup \(attachment.id)") }
                continue
            }
            let folder = hierarchy.mountPoint + path
            guard TemporaryCgroup.isAbandoned(folder) else { continue }
            try? detach(attachment.id, path: path)
            Cgroup.remove(folder)
        }
        // And those that died before they had attached anything.
        TemporaryCgroup.removeAbandoned(in: hierarchy)
    }
}
