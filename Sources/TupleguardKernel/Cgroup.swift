// SPDX-License-Identifier: Apache-2.0
// Cgroups of the v2 hierarchy: finding, naming, identifying them.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// The cgroup v2 hierarchy, wherever it is mounted.
package struct CgroupHierarchy: Sendable {
    /// Where it is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on hybrid machines.
    package let mountPoint: String

    /// Finds it in /proc/mounts.
    package init() throws(GuardError) {
        try self.init(mounts: contents(of: "/proc/self/mounts") ?? "")
    }

    init(mounts: String) throws(GuardError) {
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2 && fields[2] == "cgroup2" {
                mountPoint = Self.unescape(fields[1])
                return
            }
        }
        throw .noCgroup2
    }

    /// The path of a cgroup relative to the hierarchy, "/" first; nil when the cgroup exists no more.
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

    /// Undoes what /proc/mounts does to spaces, tabs, newlines and backslashes: \040 and so on (proc(5)).
    private static func unescape(_ field: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest.removeFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The cgroup that a process is in, as a path in the hierarchy; nil when there is no such process.
    package func path(ofProcess pid: Int32) -> String? {
        folder(ofProcess: pid).map(relative)
    }

    /// The cgroup that a process is in, as a path in the file system; nil when there is no such process.
    package func folder(ofProcess pid: Int32) -> String? {
        guard let lines = contents(of: "/proc/\(pid)/cgroup") else { return nil }
        for line in lines.split(separator: "\n") where line.hasPrefix("0::") {
            return mountPoint + line.dropFirst(3)
        }
        return nil
    }
}

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
    package init(_ name: String, in hierarchy: CgroupHierarchy) throws(GuardError) {
        let folder = try Self.findFolder(name, in: hierarchy)
        var id: UInt64 = 0
        do {
            let descriptor = try OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
            try Errno.check { linux_cgroup_id(descriptor.raw, &id) }
        } catch let error {
            throw .notACgroup(path: name, why: "it cannot be opened: \(error)")
        }
        self.folder = folder
        self.path = hierarchy.relative(folder)
        self.id = id
        self.isRoot = self.path == "/"
    }

    /// The path as it is given, if that is a cgroup, else below the mount point.
    private static func findFolder(
        _ name: String, in hierarchy: CgroupHierarchy
    ) throws(GuardError) -> String {
        guard !name.isEmpty else { throw .notACgroup(path: "''", why: "the path is empty") }
        var fault = GuardError.notACgroup(
            path: name,
            why: "there is no such folder, nor one of that name in \(hierarchy.mountPoint)")
        let below = hierarchy.mountPoint + (name.hasPrefix("/") ? name : "/" + name)
        for candidate in name.hasPrefix("/") ? [below, name] : [below] {
            guard let resolved = realpath(candidate, nil) else { continue }
            defer { free(resolved) }
            let folder = String(cString: resolved)
            guard let why = whyNotACgroup(folder, in: hierarchy) else { return folder }
            fault = .notACgroup(path: name, why: why)
        }
        throw fault
    }

    private static func whyNotACgroup(_ folder: String, in hierarchy: CgroupHierarchy) -> String? {
        var status = stat()
        guard stat(folder, &status) == 0 else { return "it cannot be read: \(Errno.last)" }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            return "it is a file; a cgroup is a folder"
        }
        switch linux_filesystem_magic(folder) {
        case cgroup2Magic: return nil
        case cgroup1Magic:
            return "it is a cgroup of version 1; the v2 hierarchy is at \(hierarchy.mountPoint)"
        default: return "it is not in the cgroup v2 hierarchy at \(hierarchy.mountPoint)"
        }
    }
}
