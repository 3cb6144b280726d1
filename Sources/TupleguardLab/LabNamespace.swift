// SPDX-License-Identifier: Apache-2.0
// Network namespaces of the lab's own, each for one row: what a row leaves behind,
// TIME_WAIT for example, cannot touch the next one. The kernel takes them back
// when the process ends, however it ends.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// Why there can be no namespace of the lab's own.
package struct LabNamespaceError: Error, Equatable, CustomStringConvertible {
    package let description: String
}

/// The network namespace that the calling thread is in, and threads that it starts.
enum LabNamespace {
    /// How this process may make network namespaces; asked once, before it has a second thread.
    static func prepare() throws(LabNamespaceError) {
        if linux_new_network_namespace() == 0 { return }
        guard errno == EPERM else {
            let error = Errno.last
            // ENOSPC has nothing to do with disks here (clone(2)).
            let remedy =
                error.number == ENOSPC
                ? "; there may be no more of them: raise user.max_net_namespaces (sysctl)" : ""
            throw LabNamespaceError(
                description: "cannot make a network namespace: \(error)\(remedy)")
        }
        if linux_new_user_and_network_namespace() == 0 { return }
        throw LabNamespaceError(description: refusal(.last, setting: Proc.system.setting))
    }

    /// What forbids user namespaces, with the remedy.
    ///
    /// - Parameter setting: the value of a file below /proc/sys; nil when there is none.
    static func refusal(_ error: Errno, setting: (String) -> String?) -> String {
        let remedy: String
        if setting("kernel/unprivileged_userns_clone") == "0" {
            remedy = "this host has kernel.unprivileged_userns_clone = 0 (sysctl)"
        } else if setting("kernel/apparmor_restrict_unprivileged_userns") == "1" {
            remedy = "this host has kernel.apparmor_restrict_unprivileged_userns = 1 (sysctl)"
        } else if setting("user/max_user_namespaces") == "0" {
            remedy = "this host has user.max_user_namespaces = 0 (sysctl)"
        } else {
            remedy = "a container or a filter of system calls (seccomp) may forbid it"
        }
        return
            "cannot make a user namespace with a network of its own: \(error); \(remedy); run it as root (sudo)"
    }

    /// A fresh namespace with a loopback interface and so many ports to choose from.
    static func enterNew(ports: ClosedRange<UInt16>) throws {
        try Errno.check { linux_new_network_namespace() }
        try Errno.check { linux_bring_up_loopback() }
        try setPorts(ports)
    }

    static func setPorts(_ ports: ClosedRange<UInt16>) throws {
        try set("net/ipv4/ip_local_port_range", "\(ports.lowerBound) \(ports.upperBound)")
    }

    /// Sets a value below /proc/sys (sysctl(8)); those of net/ belong to the thread's namespace.
    static func set(_ name: String, _ value: String) throws {
        do {
            try Proc.system.set(name, to: value)
        } catch {
            throw LabNamespaceError(
                description: "cannot set \(name) to \(value) in the lab's own namespace: \(error)")
        }
    }
}
