// SPDX-License-Identifier: Apache-2.0
// Ports of a cgroup's own that not every program may have.

package import TupleguardLinux

extension Policy {
    /// One sentence for people where some of its ports are privileged; nil where none is.
    ///
    /// bpf_bind() asks of the program that connects what bind() would (__inet_bind,
    /// inet_port_requires_bind_service).
    package func portRemark(_ proc: Proc = .system) -> String? {
        let start = proc.numericSetting("net/ipv4/ip_unprivileged_port_start") ?? 1024
        guard let ports, Int(ports.lowerBound) < start else { return nil }
        let last = min(Int(ports.upperBound), start - 1)
        let rest =
            last < Int(ports.upperBound)
            ? "it gets those from \(start) on" : "every connect() of it fails for want of a port"
        return
            "ports \(ports.lowerBound)-\(last) are privileged (net.ipv4.ip_unprivileged_port_start is \(start)): a program without CAP_NET_BIND_SERVICE is given none of them, and \(rest)"
    }
}
