// SPDX-License-Identifier: Apache-2.0
// Who a process is: its number, its user, its name, its cgroup.

package import TupleguardLinux

/// A process that has a part in something, as far as it is known.
package struct ProcessIdentity: Codable, Hashable, Sendable, CustomStringConvertible {
    /// Process id as the one who tells sees it; 0 when it is not known.
    package let pid: Int32
    package let uid: UInt32
    /// What it calls itself, fit for a terminal; nil when it had gone before anybody looked.
    package let command: String?
    /// Path of its cgroup in the v2 hierarchy, "/" first; nil when it is not known.
    package var cgroup: String? {
        didSet { pod = cgroup.flatMap(PodNames.system.pod) }
    }
    /// Id of that cgroup, 0 when it is not known; nil where nobody asked.
    package let cgroupId: UInt64?
    /// The pod of Kubernetes that it is in; nil when it is in none, or its cgroup is not known.
    package private(set) var pod: Pod?

    package init(
        pid: Int32, uid: UInt32, command: String?, cgroup: String? = nil, cgroupId: UInt64? = nil
    ) {
        self.pid = pid
        self.uid = uid
        self.command = command
        self.cgroup = cgroup
        self.cgroupId = cgroupId
        pod = cgroup.flatMap(PodNames.system.pod)
    }

    /// Of a process that runs: number, user, name and pod; nil when there is no such process.
    package init?(pid: Int32, in proc: Proc = .system) {
        guard let uid = proc.user(of: pid), let command = proc.command(of: pid) else { return nil }
        self.init(pid: pid, uid: uid, command: commandName(command))
        pod = proc.cgroup(of: pid).flatMap(PodNames.system.pod)
    }

    /// The same process with the path of its cgroup, if it has only the id.
    package func namingCgroup(_ path: (UInt64) -> String?) -> ProcessIdentity {
        var named = self
        if let cgroupId, cgroup == nil { named.cgroup = path(cgroupId) }
        return named
    }

    /// "curl"
    package var name: String { command ?? "a process that has gone" }

    /// "curl (pid 4711, uid 1000)"
    package var nameAndNumbers: String {
        if pid == 0 { return "a process that is not known (uid \(uid))" }
        return "\(name) (pid \(pid), uid \(uid))"
    }

    /// "curl (pid 4711, uid 1000) in /user.slice", or in a pod.
    package var description: String {
        printable(
            (pod?.description ?? cgroup).map { "\(nameAndNumbers) in \($0)" } ?? nameAndNumbers)
    }
}

/// The bytes of a name (`comm`) up to the first zero, fit for a terminal.
///
/// A process names itself, in whatever bytes it likes: all but the printable ones of ASCII become
/// "?".
package func commandName(_ bytes: some Sequence<UInt8>) -> String {
    String(
        decoding: bytes.prefix { $0 != 0 }.map { (0x20..<0x7f).contains($0) ? $0 : 0x3f },
        as: UTF8.self)
}

/// The same for a name that was read as text.
package func commandName(_ text: String) -> String { commandName(text.utf8) }
