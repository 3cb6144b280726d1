// SPDX-License-Identifier: Apache-2.0
// Network namespaces: found, named, entered.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// A network namespace that can be named.
package struct NetworkNamespace: Hashable, Sendable {
    /// The inode that /proc/PID/ns/net links to: the same for all its processes.
    package let inode: UInt64
    /// Where it can be entered.
    package let path: String
    package let isOwn: Bool
    /// A process that is in it, where one was looked for.
    private var member: Int32?

    package static let ownPath = "/proc/self/ns/net"
    /// Where ip-netns(8) mounts those that it names.
    private static let mounts = "/run/netns/"

    /// Nil when it is gone, or may not be looked at.
    package init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        inode = UInt64(status.st_ino)
        self.path = path
        isOwn = path == Self.ownPath
        member = isOwn ? getpid() : nil
    }

    /// The pod of Kubernetes whose it is; nil for the host's and others'.
    package var pod: Pod? {
        (member ?? process).flatMap { Proc.system.cgroup(of: $0) }
            .flatMap(PodNames.system.pod)
    }

    // MARK: - Names

    /// The name of our own, which goes without saying.
    package static let ownName = "this network namespace"

    /// "this network namespace", "network namespace blue", "network namespace of pid 4711".
    package var name: String {
        if isOwn { return Self.ownName }
        if let mounted { return printable("network namespace \(mounted)") }
        if let process { return "network namespace of pid \(process)" }
        return printable("network namespace \(path)")
    }

    /// What a command line begins with to run inside; empty for our own.
    package var commandPrefix: String {
        if isOwn { return "" }
        if let mounted { return "ip netns exec \(shellWord(String(mounted))) " }
        return process.map { "nsenter -t \($0) -n " } ?? ""
    }

    /// The name that ip-netns(8) has for it.
    private var mounted: Substring? {
        path.hasPrefix(Self.mounts) ? path.dropFirst(Self.mounts.count) : nil
    }

    /// A process that is in it.
    private var process: Int32? {
        let parts = path.split(separator: "/")
        return parts.count == 4 && parts[0] == "proc" ? Int32(parts[1]) : nil
    }

    // MARK: - Finding them

    /// Which of them are looked at.
    package enum Selection: String, CaseIterable, Sendable {
        /// The one that we are in.
        case own = "self"
        /// Every one that a process is in or that is mounted, as far as we may enter it.
        case all
    }

    /// Those that a process is in or that are mounted under /run/netns, each once, our own first.
    ///
    /// One that is kept alive by nothing but an open socket has no path, and is not found.
    ///
    /// - Returns: those, and whether there are processes of which we may not know in which one
    ///   they are.
    package static func find(_ selection: Selection = .all) -> (
        namespaces: [NetworkNamespace], hasHidden: Bool
    ) {
        var candidates = [ownPath]
        if selection == .all {
            candidates += names(in: mounts).map { mounts + $0 }
            candidates += Proc.system.processes.map { Proc.system.path(of: $0, "ns/net") }
        }
        var hasHidden = false
        var seen: [UInt64: Int] = [:]
        var found: [NetworkNamespace] = []
        for path in candidates {
            if let namespace = NetworkNamespace(path: path) {
                if let index = seen[namespace.inode] {
                    // One that is mounted is known by its first process too.
                    found[index].member = found[index].member ?? namespace.process
                } else {
                    seen[namespace.inode] = found.count
                    found.append(namespace)
                }
            } else {
                hasHidden = hasHidden || errno == EACCES && isProcessThere(path)
            }
        }
        return (found, hasHidden)
    }

    /// EACCES also tells of a process that is gone by now (proc_ns_get_link).
    private static func isProcessThere(_ path: String) -> Bool {
        access(String(path.dropLast("/ns/net".utf8.count)), F_OK) == 0
    }

    // MARK: - Inside

    /// Runs `body` in the namespace; in our own on the calling thread, without privilege.
    ///
    /// - Throws: EPERM without CAP_SYS_ADMIN, ENOENT when it is gone, what `body` throws.
    package func inside<Result: Sendable>(
        _ body: @escaping @Sendable () throws -> Result
    ) throws -> Result {
        isOwn ? try body() : try Self.inside(path: path, body)
    }

    /// Runs `body` on a thread of its own inside the network namespace at `path`.
    ///
    /// The thread ends with the call, so no other code ever runs in the wrong
    /// namespace. Needs CAP_SYS_ADMIN (setns(2)).
    package static func inside<Result: Sendable>(
        path: String, _ body: @escaping @Sendable () throws -> Result
    ) throws -> Result {
        let namespace = try OwnedDescriptor(path: path, flags: O_RDONLY)
        let raw = namespace.raw
        let result = try Thread.run { () throws -> Result in
            try Errno.check { linux_enter_network_namespace(raw) }
            return try body()
        }
        _ = namespace
        return result
    }
}
