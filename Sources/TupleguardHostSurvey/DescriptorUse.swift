// SPDX-License-Identifier: Apache-2.0
// How many descriptors are open, of how many that may be.

import Glibc
package import TupleguardLinux
import TupleguardSockets

/// The open descriptors of one process.
package struct DescriptorUse: Hashable, Sendable {
    package let pid: Int32
    package let open: Int
    /// RLIMIT_NOFILE: open() and socket() fail with EMFILE here.
    package let limit: Int
    /// Up to which the process may raise it itself.
    package let hardLimit: Int

    package init(pid: Int32, open: Int, limit: Int, hardLimit: Int) {
        self.pid = pid
        self.open = open
        self.limit = limit
        self.hardLimit = hardLimit
    }

    /// Nil when the process is gone or may not be looked at.
    package init?(pid: Int32, _ proc: Proc = .system) {
        guard let limits = proc.contents(of: pid, "limits").flatMap(Self.parse),
            let open = Self.count(pid, proc)
        else { return nil }
        self.init(pid: pid, open: open, limit: limits.soft, hardLimit: limits.hard)
    }

    /// The size of /proc/PID/fd is how many there are (Linux 6.2), and needs no privilege.
    private static func count(_ pid: Int32, _ proc: Proc) -> Int? {
        let folder = proc.path(of: pid, "fd")
        var status = stat()
        guard stat(folder, &status) == 0 else { return nil }
        if status.st_size > 0 { return Int(status.st_size) }
        return access(folder, R_OK) == 0 ? names(in: folder).count : nil
    }

    /// "Max open files            1024                 524288               files"
    static func parse(_ limits: String) -> (soft: Int, hard: Int)? {
        for line in limits.split(separator: "\n") where line.hasPrefix("Max open files") {
            let numbers = line.split(separator: " ").compactMap {
                $0 == "unlimited" ? Int.max : Int($0)
            }
            if numbers.count == 2 { return (numbers[0], numbers[1]) }
        }
        return nil
    }

    /// Every process that we may look at, and how many we may not.
    ///
    /// - Parameter namespaces: of all, or only those in our own network namespace.
    package static func all(
        _ namespaces: NetworkNamespace.Selection, _ proc: Proc = .system
    ) -> (uses: [DescriptorUse], unreadable: Int) {
        var uses: [DescriptorUse] = []
        var unreadable = 0
        let own = namespaces == .own ? NetworkNamespace(path: NetworkNamespace.ownPath)?.inode : nil
        for pid in proc.processes {
            guard own == nil || NetworkNamespace(path: proc.path(of: pid, "ns/net"))?.inode == own
            else { continue }
            if let use = DescriptorUse(pid: pid, proc) {
                uses.append(use)
            } else if isRunning(pid) {
                unreadable += 1
            }
        }
        return (uses, unreadable)
    }
}

/// The open files of the whole host (fs.file-nr).
package struct HostFiles: Hashable, Sendable {
    package let open: Int
    /// fs.file-max: everybody gets ENFILE here.
    package let limit: Int

    package init(open: Int, limit: Int) {
        self.open = open
        self.limit = limit
    }

    /// "4084\t0\t2466183"
    package init?(_ text: String) {
        let numbers = text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        guard numbers.count == 3 else { return nil }
        self.init(open: numbers[0], limit: numbers[2])
    }

    package static func current(_ proc: Proc = .system) -> HostFiles? {
        proc.setting("fs/file-nr").flatMap { HostFiles($0) }
    }
}
