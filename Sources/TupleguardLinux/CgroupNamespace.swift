// SPDX-License-Identifier: Apache-2.0
// Cgroup namespaces: what the kernel calls a cgroup depends on the one of whoever asks.

import CTupleguardLinux
import Glibc
import TupleguardSockets

package enum CgroupNamespace {
    /// Moves the calling thread, and those that it starts, into the cgroup namespace of process 1.
    ///
    /// In a container that sees the machine's processes, /proc/PID/cgroup says
    /// "/../../system.slice/web.service" otherwise, from the container's own cgroup as the root.
    /// Without CAP_SYS_ADMIN it stays so.
    package static func joinThatOfProcessOne() {
        let path = Proc.system.path(of: 1, "ns/cgroup")
        var (own, first) = (stat(), stat())
        guard stat(Proc.system.path("self/ns/cgroup"), &own) == 0, stat(path, &first) == 0,
            own.st_ino != first.st_ino,
            let namespace = try? OwnedDescriptor(path: path, flags: O_RDONLY)
        else { return }
        _ = linux_enter_cgroup_namespace(namespace.raw)
    }
}
