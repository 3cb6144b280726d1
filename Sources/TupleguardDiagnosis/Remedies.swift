// SPDX-License-Identifier: Apache-2.0
// Words and remedies that several rules have in common.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSockets

extension Evidence {
    func usageNote(_ filling: Filling, _ destination: TransportSurvey.Destination? = nil)
        -> String
    {
        var note = "\(grouped(filling.used)) of \(grouped(filling.possible)) ports"
        if let destination, destination.timeWait > 0 {
            note += ", \(grouped(destination.timeWait)) in TIME_WAIT"
            let fresh = destination.freshTimeWait
            if fresh > 0 { note += " (\(grouped(fresh)) for less than a second)" }
        }
        if let rate = rateText(filling.rate) { note += ", \(rate)" }
        return note
    }

    func rangeRemedies(_ namespace: NamespaceSurvey) -> [Finding.Remedy] {
        let roomy = 60_000
        guard namespace.settings.possible < roomy else { return [] }
        return [
            .init(
                "Widen the range of ports. List in net.ipv4.ip_local_reserved_ports those that servers in it listen on.",
                "\(namespace.namespace.commandPrefix)sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""
            )
        ]
    }

    /// In C.
    static let bindWithoutPort = """
        int on = 1;
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        """

    /// The cgroup of a process as one word of a command.
    func cgroupName(ofProcess pid: Int32) -> String {
        Proc.system.cgroup(of: pid).map(shellWord) ?? "CGROUP"
    }

    /// The cgroup to guard: the one that all of them are in, or below.
    func cgroup(of shadow: Shadow) -> String {
        let paths = shadow.members.map { cgroupPath($0.cgroup).map { $0.split(separator: "/") } }
        guard var common = paths.first ?? nil else { return "CGROUP" }
        for path in paths {
            guard let path else { return "CGROUP" }
            while !path.starts(with: common) { common.removeLast() }
        }
        return shellWord("/" + common.joined(separator: "/"))
    }
}
