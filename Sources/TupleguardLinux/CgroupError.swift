// SPDX-License-Identifier: Apache-2.0
// What can go wrong with cgroups, in sentences that name cause and remedy.

package import TupleguardSockets

package enum CgroupError: Error, Equatable, Sendable, CustomStringConvertible {
    /// No cgroup v2 hierarchy is mounted.
    case noHierarchy
    /// Only hierarchies of version 1 are.
    case versionOneOnly
    /// There is no such folder: not yet, or no more.
    case missing(path: String, mountPoint: String)
    /// The path leads to something that is no cgroup of the v2 hierarchy.
    case notACgroup(path: String, why: String)
    /// It could not be made or entered.
    case failed(what: String, errno: Errno, remedy: String?)

    /// Others choose the names of cgroups.
    package var description: String { printable(sentence) }

    private var sentence: String {
        switch self {
        case .noHierarchy:
            "no cgroup v2 hierarchy is mounted; try: mount -t cgroup2 none /sys/fs/cgroup"
        case .versionOneOnly:
            "only cgroup v1 is mounted, and BPF programs attach to cgroups of v2; boot with systemd.unified_cgroup_hierarchy=1, or mount it beside v1: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
        case .missing(let path, let mountPoint):
            "\(path) is not a cgroup to guard: there is no such folder, nor one of that name in \(mountPoint)"
        case .notACgroup(let path, let why):
            "\(path) is not a cgroup to guard: \(why)"
        case .failed(let what, let errno, let remedy):
            "cannot \(what): \(errno)" + (remedy.map { "; \($0)" } ?? "")
        }
    }
}
