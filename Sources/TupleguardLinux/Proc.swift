// SPDX-License-Identifier: Apache-2.0
// The file system in which the kernel tells of processes and of its settings (proc(5)).

import Glibc
package import TupleguardSockets

/// /proc, or a folder that a test has made to look like it.
package struct Proc: Sendable {
    package let root: String

    package init(root: String) {
        self.root = root
    }

    /// This machine's.
    package static let system = Proc(root: "/proc")

    package func path(_ name: String) -> String { "\(root)/\(name)" }
    package func path(of pid: Int32, _ name: String) -> String { "\(root)/\(pid)/\(name)" }

    package func contents(_ name: String) -> String? {
        TupleguardLinux.contents(of: path(name))
    }

    package func contents(of pid: Int32, _ name: String) -> String? {
        TupleguardLinux.contents(of: path(of: pid, name))
    }

    // MARK: - Processes

    /// The processes that we may see.
    package var processes: [Int32] { names(in: root).compactMap { Int32($0) } }

    /// Whether other users' processes are not shown to us: it is mounted with hidepid=2.
    ///
    /// Every PID namespace has a process 1.
    package var hidesProcesses: Bool { !exists("1") }

    package func exists(_ name: String) -> Bool { access(path(name), F_OK) == 0 }

    /// What a process calls itself, as it is: with characters that no terminal should be shown;
    /// nil when there is no such process.
    package func command(of pid: Int32) -> String? {
        contents(of: pid, "comm").map { $0.last == "\n" ? String($0.dropLast()) : $0 }
    }

    /// Who started a process, or has taken it over; nil when there is no such process.
    package func parent(of pid: Int32) -> Int32? {
        status(of: pid, "PPid").flatMap { Int32($0) }
    }

    /// The process that a thread belongs to; nil when there is no such thread.
    package func process(ofThread thread: Int32) -> Int32? {
        status(of: thread, "Tgid").flatMap { Int32($0) }
    }

    /// Whether a process has been stopped by a signal or a debugger; nil when there is no such
    /// process.
    package func isStopped(_ pid: Int32) -> Bool? {
        status(of: pid, "State").map { $0.first.map { "Tt".contains($0) } ?? false }
    }

    /// A line of a process's `status`, without its name; nil when there is no such process.
    private func status(of pid: Int32, _ name: String) -> Substring? {
        contents(of: pid, "status")?.split(separator: "\n").first { $0.hasPrefix(name + ":\t") }?
            .dropFirst(name.count + 2)
    }

    /// The effective user of a process; nil when there is no such process.
    package func user(of pid: Int32) -> UInt32? {
        var status = stat()
        return stat(path("\(pid)"), &status) == 0 ? status.st_uid : nil
    }

    /// The real, effective, saved and file-system user of a process; empty when there is none.
    package func users(of pid: Int32) -> [UInt32] {
        status(of: pid, "Uid")?.split(separator: "\t").compactMap { UInt32($0) } ?? []
    }

    /// The cgroup of the v2 hierarchy that a process is in, "/" first; nil when there is no such
    /// process.
    package func cgroup(of pid: Int32) -> String? {
        let lines = bytes(of: path(of: pid, "cgroup"))?.split(separator: UInt8(ascii: "\n"))
        return lines?.first { $0.starts(with: "0::".utf8) }.map { fileName($0.dropFirst(3)) }
    }

    // MARK: - Settings

    /// The value of a setting such as "net/ipv4/tcp_tw_reuse" (sysctl(8)), without its line end;
    /// nil where there is none. Those of net/ are the calling thread's network namespace's.
    package func setting(_ name: String) -> String? {
        contents("sys/\(name)").map { String($0.prefix { !$0.isNewline }) }
    }

    /// The same, where it is one number.
    package func numericSetting(_ name: String) -> Int? {
        setting(name).flatMap { Int($0.filter { !$0.isWhitespace }) }
    }

    package func set(_ name: String, to value: String) throws(Errno) {
        let file = try OwnedDescriptor(path: path("sys/\(name)"), flags: O_WRONLY)
        try Errno.check { write(file.raw, value, value.utf8.count) }
    }
}
