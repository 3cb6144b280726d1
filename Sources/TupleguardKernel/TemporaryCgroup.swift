// SPDX-License-Identifier: Apache-2.0
// A cgroup for the time of one command.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// A cgroup that is made fresh, and removed with everything in it.
package struct TemporaryCgroup: ~Copyable {
    private static let prefix = "tupleguard-exec-"

    package let cgroup: Cgroup

    /// Makes one below this process's own cgroup, or, where the kernel does not
    /// let it (threaded cgroups), below the root.
    package init(in hierarchy: CgroupHierarchy) throws(GuardError) {
        let name = "\(Self.prefix)\(getpid())"
        let own = hierarchy.folder(ofProcess: getpid()) ?? hierarchy.mountPoint
        let parents = own == hierarchy.mountPoint ? [own] : [own, hierarchy.mountPoint]
        var failure = Errno(ENOENT)
        for parent in parents {
            let folder = (parent.hasSuffix("/") ? parent : parent + "/") + name
            if mkdir(folder, 0o755) == 0 {
                cgroup = try Cgroup(folder, in: hierarchy)
                return
            }
            failure = .last
        }
        throw .failed(
            what: "make the cgroup \(name) below \(own)", errno: failure,
            detail: "it needs root and a writable cgroup v2 hierarchy")
    }

    deinit {
        Self.remove(cgroup.folder)
    }

    /// Moves this process into a cgroup.
    package static func enter(_ folder: String) throws(GuardError) {
        do {
            let file = try OwnedDescriptor(path: folder + "/cgroup.procs", flags: O_WRONLY)
            try Errno.check { write(file.raw, "0", 1) }
        } catch {
            throw .failed(what: "enter the cgroup \(folder)", errno: error, detail: "")
        }
    }

    /// Processes that are in it.
    package var processes: [Int32] { Self.processes(in: cgroup.folder) }

    private static func processes(in folder: String) -> [Int32] {
        (contents(of: folder + "/cgroup.procs") ?? "").split(separator: "\n").compactMap {
            Int32($0)
        }
    }

    /// Ends what is still running in it.
    package func killAll() {
        Self.killAll(in: cgroup.folder)
    }

    package static func killAll(in folder: String) {
        guard let file = try? OwnedDescriptor(path: folder + "/cgroup.kill", flags: O_WRONLY) else {
            return
        }
        _ = write(file.raw, "1", 1)
    }

    /// A cgroup can be removed once the last process in it is really gone, a moment after it was killed.
    private static func remove(_ folder: String) {
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

    /// Removes the one that a process made which is over, and could not tidy up.
    package static func removeMade(by process: Int32) {
        guard let hierarchy = try? CgroupHierarchy() else { return }
        for parent in parents(in: hierarchy) {
            let folder = "\(parent)/\(prefix)\(process)"
            if access(folder, F_OK) == 0 { remove(folder) }
        }
    }

    /// Where one may have been made.
    private static func parents(in hierarchy: CgroupHierarchy) -> Set<String> {
        [hierarchy.folder(ofProcess: getpid()) ?? hierarchy.mountPoint, hierarchy.mountPoint]
    }

    /// Removes what runs of the command left behind that were killed before they could tidy up.
    ///
    /// - Parameter hasAgent: whether an agent looks after the state. Without one nobody else ends
    ///   attachments whose cgroup is gone, as when a run with another state removed it.
    package static func removeAbandoned(_ state: GuardState, hasAgent: Bool) {
        guard let hierarchy = try? CgroupHierarchy() else { return }
        for attachment in (try? state.attachments()) ?? [] {
            guard let path = attachment.path else {
                if !hasAgent { try? state.detach(attachment.id, path: "cgroup \(attachment.id)") }
                continue
            }
            let folder = hierarchy.mountPoint + path
            guard isAbandoned(folder) else { continue }
            try? state.detach(attachment.id, path: path)
            remove(folder)
        }
        // And those that died before they had attached anything.
        for parent in parents(in: hierarchy) {
            for name in names(in: parent) where isAbandoned("\(parent)/\(name)") {
                remove("\(parent)/\(name)")
            }
        }
    }

    /// Whether a folder is the cgroup of a run that is over, with nobody in it.
    private static func isAbandoned(_ folder: String) -> Bool {
        guard let name = folder.split(separator: "/").last, name.hasPrefix(prefix),
            let pid = Int32(name.dropFirst(prefix.count))
        else { return false }
        return kill(pid, 0) != 0 && errno == ESRCH && processes(in: folder).isEmpty
    }
}
