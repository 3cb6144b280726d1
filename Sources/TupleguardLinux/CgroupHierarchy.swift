// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 hierarchy: where it is, and which cgroup has which path in it.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// The cgroup v2 hierarchy, wherever it is mounted.
package struct CgroupHierarchy: Sendable {
    /// Where it can be reached: /sys/fs/cgroup, or /sys/fs/cgroup/unified on hybrid machines;
    /// below another root where it is not mounted in our mount namespace.
    package let mountPoint: String
    /// Nil where it is mounted in our mount namespace.
    private let outer: OuterRoot?
    private let proc: Proc

    /// Finds it among the mounts: ours, or those of whoever started us, which `ip netns exec` hides
    /// behind a /sys of its own.
    package init(
        proc: Proc = .system, outer roots: @autoclosure () -> [OuterRoot] = OuterRoot.all
    ) throws(CgroupError) {
        let mounts = proc.contents("self/mounts") ?? ""
        let points = Mounts.points(ofType: "cgroup2", in: mounts)
        // A container may have its own cgroup mounted beside the machine's. Cgroups are numbered as
        // they are made, and each is older than what is in it.
        if let point = points.min(by: { Self.number(of: $0) < Self.number(of: $1) }) {
            self.init(point, below: nil, proc)
            return
        }
        for outer in roots() {
            if let point = Mounts.points(ofType: "cgroup2", in: outer.mounts).first {
                self.init(point, below: outer, proc)
                return
            }
        }
        let hasVersionOne = !Mounts.points(ofType: "cgroup", in: mounts).isEmpty
        throw hasVersionOne ? .versionOneOnly : .noHierarchy
    }

    /// The number of the cgroup that is mounted there (cgroup_id, which is its inode's).
    private static func number(of mountPoint: String) -> UInt64 {
        var status = stat()
        return stat(mountPoint, &status) == 0 ? UInt64(status.st_ino) : .max
    }

    private init(_ point: String, below outer: OuterRoot?, _ proc: Proc) {
        mountPoint = (outer?.path ?? "") + point
        self.outer = outer
        self.proc = proc
    }

    /// The path of a cgroup relative to the hierarchy, "/" first; nil when the cgroup exists no
    /// more.
    package func path(of id: UInt64) -> String? {
        guard let mount = try? OwnedDescriptor(path: mountPoint, flags: O_RDONLY | O_DIRECTORY),
            let folder = try? OwnedDescriptor({ linux_open_cgroup(mount.raw, id) })
        else { return nil }
        return self.folder(ofDescriptor: folder.raw).map { relative($0) }
    }

    /// Where a name that was given may be meant to be.
    func candidates(for name: String) -> [String] {
        let below = mountPoint + (name.hasPrefix("/") ? name : "/" + name)
        return name.hasPrefix("/") ? [below, (outer?.path ?? "") + name] : [below]
    }

    /// Where an open folder of the hierarchy can be reached.
    func folder(ofDescriptor descriptor: Int32) -> String? {
        TupleguardLinux.path(ofDescriptor: descriptor).map { outer?.reach($0) ?? $0 }
    }

    /// Without the mount point.
    func relative(_ path: String) -> String {
        if path == mountPoint { return "/" }
        guard path.hasPrefix(mountPoint + "/") else { return path }
        return String(path.dropFirst(mountPoint.count))
    }

    /// The cgroup that a process is in, as a path in the hierarchy; nil when there is no such
    /// process.
    package func path(ofProcess pid: Int32) -> String? { proc.cgroup(of: pid) }

    /// The cgroup that a process is in, as a folder; nil when there is no such process.
    package func folder(ofProcess pid: Int32) -> String? {
        proc.cgroup(of: pid).map { mountPoint + $0 }
    }

    /// The cgroup that this process is in, as a folder.
    package var ownFolder: String { folder(ofProcess: getpid()) ?? mountPoint }
}
