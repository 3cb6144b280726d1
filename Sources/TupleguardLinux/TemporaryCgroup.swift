// SPDX-License-Identifier: Apache-2.0
// A cgroup for the time of one command.

import Glibc
import TupleguardSockets

/// A cgroup that is made fresh, and removed with everything in it.
package struct TemporaryCgroup: ~Copyable {
    private static let prefix = "tupleguard-exec-"

    package let cgroup: Cgroup
    /// Whoever has this lock lives, in whichever PID namespace.
    private let lock: OwnedDescriptor

    /// Makes one below this process's own cgroup, or, where the kernel does not
    /// let it (threaded cgroups), below the root.
    package init(in hierarchy: CgroupHierarchy) throws(CgroupError) {
        let folder = try Self.make(in: hierarchy)
        let lock = try Self.locked(folder)
        cgroup = try Cgroup(folder, in: hierarchy)
        self.lock = lock
    }

    private static func make(in hierarchy: CgroupHierarchy) throws(CgroupError) -> String {
        let name = "\(prefix)\(getpid())"
        var failure = Errno(ENOENT)
        for parent in parents(in: hierarchy) {
            let folder = (parent.hasSuffix("/") ? parent : parent + "/") + name
            if mkdir(folder, 0o755) == 0 { return folder }
            failure = .last
        }
        throw .failed(
            what: "make the cgroup \(name) below \(hierarchy.ownFolder)", errno: failure,
            remedy: "it needs root and a writable cgroup v2 hierarchy")
    }

    private static func locked(_ folder: String) throws(CgroupError) -> OwnedDescriptor {
        do throws(Errno) {
            let descriptor = try OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
            try Errno.check { flock(descriptor.raw, LOCK_EX) }
            return descriptor
        } catch {
            rmdir(folder)
            throw .failed(what: "lock the cgroup \(folder)", errno: error, remedy: nil)
        }
    }

    deinit {
        Cgroup.remove(cgroup.folder)
    }

    /// Processes that are in it.
    package var processes: [Int32] { Cgroup.processes(in: cgroup.folder) }

    /// Ends what is still running in it.
    package func killAll() {
        Cgroup.killAll(in: cgroup.folder)
    }

    // MARK: - What others left behind

    /// Where one may be made, the better place first.
    private static func parents(in hierarchy: CgroupHierarchy) -> [String] {
        let own = hierarchy.ownFolder
        return own == hierarchy.mountPoint ? [own] : [own, hierarchy.mountPoint]
    }

    /// Removes the one that a process made which is over, and could not tidy up.
    package static func removeMade(by process: Int32) {
        guard let hierarchy = try? CgroupHierarchy() else { return }
        for parent in parents(in: hierarchy) {
            let folder = "\(parent)/\(prefix)\(process)"
            if access(folder, F_OK) == 0 { Cgroup.remove(folder) }
        }
    }

    /// Removes those whose processes were killed before they could tidy up.
    package static func removeAbandoned(in hierarchy: CgroupHierarchy) {
        for parent in parents(in: hierarchy) {
            for name in names(in: parent) where isAbandoned("\(parent)/\(name)") {
                Cgroup.remove("\(parent)/\(name)")
            }
        }
    }

    /// Whether a folder is one whose process is over, with nobody in it or below.
    package static func isAbandoned(_ folder: String) -> Bool {
        guard let name = folder.split(separator: "/").last, name.hasPrefix(prefix),
            let pid = Int32(name.dropFirst(prefix.count))
        else { return false }
        return !isRunning(pid) && !isLocked(folder) && !Cgroup.isPopulated(folder)
    }

    private static func isLocked(_ folder: String) -> Bool {
        guard let descriptor = try? OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
        else { return false }
        return flock(descriptor.raw, LOCK_EX | LOCK_NB) != 0
    }
}

/// Whether there is such a process, whoever's it is.
package func isRunning(_ pid: Int32) -> Bool {
    kill(pid, 0) == 0 || errno != ESRCH
}
