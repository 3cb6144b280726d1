// SPDX-License-Identifier: Apache-2.0
// Cgroups of the v2 hierarchy: found, identified, entered, removed.

import CTupleguardLinux
import Glibc
package import TupleguardSockets

/// A cgroup of the v2 hierarchy that exists.
package struct Cgroup: Hashable, Sendable {
    /// Its folder.
    package let folder: String
    /// Relative to the hierarchy, as systemd and /proc/PID/cgroup write it: "/system.slice".
    package let path: String
    /// Unique for as long as the machine runs: one made again under the same name has another.
    package let id: UInt64
    /// Whether every process is in it.
    package let isRoot: Bool

    private static let cgroup2Magic: UInt64 = 0x6367_7270
    private static let cgroup1Magic: UInt64 = 0x27_e0eb

    /// Finds a cgroup by its folder or by its path in the hierarchy
    /// ("/sys/fs/cgroup/system.slice", "/system.slice" or "system.slice").
    package init(_ name: String, in hierarchy: CgroupHierarchy) throws(CgroupError) {
        let folder = try Self.findFolder(name, in: hierarchy)
        do {
            id = try Self.id(ofFolder: folder)
        } catch let error {
            throw .notACgroup(path: name, why: "it cannot be opened: \(error)")
        }
        self.folder = folder
        self.path = hierarchy.relative(folder)
        self.isRoot = self.path == "/"
    }

    /// The id of the cgroup that a folder of the hierarchy is.
    package static func id(ofFolder folder: String) throws(Errno) -> UInt64 {
        let descriptor = try OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
        var id: UInt64 = 0
        try Errno.check { linux_cgroup_id(descriptor.raw, &id) }
        return id
    }

    /// The path as it is given, if that is a cgroup, else below the mount point.
    private static func findFolder(
        _ name: String, in hierarchy: CgroupHierarchy
    ) throws(CgroupError) -> String {
        guard !name.isEmpty else { throw .notACgroup(path: "''", why: "the path is empty") }
        var fault = CgroupError.missing(path: name, mountPoint: hierarchy.mountPoint)
        for candidate in hierarchy.candidates(for: name) {
            guard let file = try? OwnedDescriptor(path: candidate, flags: LINUX_O_PATH) else {
                continue
            }
            if let why = whyNotACgroup(file, in: hierarchy) {
                fault = .notACgroup(path: name, why: why)
            } else if let folder = hierarchy.folder(ofDescriptor: file.raw) {
                return folder
            }
        }
        throw fault
    }

    private static func whyNotACgroup(
        _ file: borrowing OwnedDescriptor, in hierarchy: CgroupHierarchy
    ) -> String? {
        var status = stat()
        guard fstat(file.raw, &status) == 0 else { return "it cannot be read: \(Errno.last)" }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return "it is a file; a cgroup is a folder"
        }
        switch linux_filesystem_magic("/proc/self/fd/\(file.raw)") {
        case cgroup2Magic: return nil
        case cgroup1Magic:
            return "it is a cgroup of version 1; the v2 hierarchy is at \(hierarchy.mountPoint)"
        default: return "it is not in the cgroup v2 hierarchy at \(hierarchy.mountPoint)"
        }
    }
}

// MARK: - Above and below

extension Cgroup {
    /// Whether the first of two paths in the hierarchy is the second, or below it.
    package static func isPath(_ path: String, atOrBelow ancestor: String) -> Bool {
        ancestor == "/" || path == ancestor || path.hasPrefix(ancestor + "/")
    }
}

// MARK: - Processes in it

extension Cgroup {
    /// Moves this process into the cgroup that a folder is.
    package static func enter(_ folder: String) throws(CgroupError) {
        do {
            let file = try OwnedDescriptor(path: folder + "/cgroup.procs", flags: O_WRONLY)
            try Errno.check { write(file.raw, "0", 1) }
        } catch {
            throw .failed(what: "enter the cgroup \(folder)", errno: error, remedy: nil)
        }
    }

    package static func processes(in folder: String) -> [Int32] {
        (contents(of: folder + "/cgroup.procs") ?? "").split(separator: "\n").compactMap {
            Int32($0)
        }
    }

    /// Whether a process is in it, or below.
    package static func isPopulated(_ folder: String) -> Bool {
        (contents(of: folder + "/cgroup.events") ?? "").split(separator: "\n")
            .contains("populated 1")
    }

    /// Kills all that runs in it or below (cgroup.kill).
    package static func killAll(in folder: String) {
        guard let file = try? OwnedDescriptor(path: folder + "/cgroup.kill", flags: O_WRONLY) else {
            return
        }
        _ = write(file.raw, "1", 1)
    }

    /// Removes a cgroup with all that runs in it, and those below it.
    ///
    /// It can go once the last process in it is really gone, a moment after that was killed.
    package static func remove(_ folder: String) {
        killAll(in: folder)
        for _ in 0..<500 {
            for child in names(in: folder)
            where access("\(folder)/\(child)/cgroup.procs", F_OK) == 0 {
                remove("\(folder)/\(child)")
            }
            if rmdir(folder) == 0 || errno == ENOENT { return }
            usleep(10_000)
        }
    }
}
