// SPDX-License-Identifier: Apache-2.0
// The cgroup v2 hierarchy: where it is, and which cgroup has which path in it.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// The cgroup v2 hierarchy, wherever it is mounted.
package struct CgroupHierarchy: Sendable {
    /// Where it is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on hybrid machines.
    package let mountPoint: String
    private let proc: Proc

    /// Finds it among the mounts.
    package init(proc: Proc = .system) throws(CgroupError) {
        let mounts = proc.contents("self/mounts") ?? ""
        guard let point = Mounts.points(ofType: "cgroup2", in: mounts).first else {
            throw .noHierarchy
        }
        mountPoint = point
        self.proc = proc
    }

    /// The path of a cgroup relative to the hierarchy, "/" first; nil when the cgroup exists no
    /// more.
    package func path(of id: UInt64) -> String? {
        guard let mount = try? OwnedDescriptor(path: mountPoint, flags: O_RDONLY | O_DIRECTORY),
            let folder = try? OwnedDescriptor({ linux_open_cgroup(mount.raw, id) })
        else { return nil }
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/fd/\(folder.raw)", &buffer, buffer.count)
        guard length > 0 else { return nil }
        let path = String(decoding: buffer[..<length], as: UTF8.self)
        if path.hasSuffix(" (deleted)") { return nil }
        return relative(path)
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
