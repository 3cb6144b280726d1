// SPDX-License-Identifier: Apache-2.0
// Which network namespaces are looked at, and what people call them.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// A network namespace that can be named.
package struct Namespace: Hashable, Sendable {
    /// The inode that /proc/PID/ns/net links to: the same for all its processes.
    package let inode: UInt64
    /// Where it can be entered.
    package let path: String
    package let isOwn: Bool

    static let ownPath = "/proc/self/ns/net"
    private static let mounts = "/run/netns/"

    /// Nil when it is gone, or may not be looked at.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        inode = UInt64(status.st_ino)
        self.path = path
        isOwn = path == Self.ownPath
    }

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

    /// Which namespaces a survey is to cover.
    package enum Selection: String, CaseIterable, Sendable {
        /// The one that we are in.
        case own = "self"
        /// Every one that a process is in or that is mounted, as far as we may enter it.
        case all
    }

    /// - Returns: those, and whether there are processes that may be in others.
    static func selected(_ selection: Selection) -> (namespaces: [Namespace], hasHidden: Bool) {
        let (paths, hasHidden) =
            selection == .own ? ([ownPath], false) : NetworkNamespaces.find()
        return (paths.compactMap { Namespace(path: $0) }, hasHidden)
    }

    /// Runs `body` in the namespace; in our own on the calling thread, without privilege.
    ///
    /// - Throws: EPERM without CAP_SYS_ADMIN, ENOENT when it is gone, what `body` throws.
    package func inside<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) throws
        -> Result
    {
        isOwn ? try body() : try NetworkNamespaces.inside(path: path, body)
    }
}
