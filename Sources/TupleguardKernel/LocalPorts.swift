// SPDX-License-Identifier: Apache-2.0
// Which local ports the kernel, and discovery with it, chooses from.
import TupleguardLinux
import TupleguardSockets

/// The ports that sockets without one may get, in a network namespace.
///
/// The guard's programs read them from the kernel at each connect; this is for people.
package struct LocalPorts: Hashable, Sendable {
    /// A path at which the namespace can be entered.
    package let namespace: String
    /// net.ipv4.ip_local_port_range
    package let range: ClosedRange<UInt16>
    /// net.ipv4.ip_local_reserved_ports, such as "8080,9000-9100"; most often empty.
    package let reserved: String

    /// Of every network namespace that can be entered, as they are now.
    package static func inForce() -> [LocalPorts] {
        NetworkNamespaces.paths().compactMap { path in
            // One that went meanwhile has no ports any more.
            try? NetworkNamespaces.inside(path: path) { read(of: path) }
        }
    }

    /// Those of the calling thread's network namespace: sysctl(5) files show nothing else.
    private static func read(of namespace: String) -> LocalPorts? {
        let folder = "/proc/sys/net/ipv4"
        guard let range = contents(of: "\(folder)/ip_local_port_range").flatMap(parsePortRange)
        else {
            return nil
        }
        let reserved = contents(of: "\(folder)/ip_local_reserved_ports") ?? ""
        return LocalPorts(
            namespace: namespace, range: range,
            reserved: String(reserved.prefix { !$0.isNewline }))
    }
}
