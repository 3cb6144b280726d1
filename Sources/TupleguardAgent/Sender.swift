// SPDX-License-Identifier: Apache-2.0
// Who sent a notice: from the kernel, never from the notice.

import TupleguardLinux
import TupleguardRecords

/// What the kernel says of the sender (SCM_CREDENTIALS).
struct Sender: Hashable, Sendable {
    /// Process id in the agent's PID namespace; 0 for a process that is not visible there.
    let pid: Int32
    let uid: UInt32
}

extension ProcessIdentity {
    /// A sender, with what /proc still says of it. That is read when the notice has come, and may
    /// be missing, or with much bad luck be that of a later process of the same user.
    init(_ sender: Sender, in hierarchy: CgroupHierarchy?, proc: Proc = .system) {
        let command = proc.command(of: sender.pid)
        let cgroup =
            hierarchy?.folder(ofProcess: sender.pid).flatMap { try? Cgroup.id(ofFolder: $0) } ?? 0
        // Last, so that all of it is the sender's if this is.
        let isSenders = sender.pid > 0 && proc.users(of: sender.pid).contains(sender.uid)
        self.init(
            pid: sender.pid, uid: sender.uid,
            command: isSenders ? command.map { commandName($0) } : nil,
            cgroupId: isSenders ? cgroup : 0)
    }
}
