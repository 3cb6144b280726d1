// SPDX-License-Identifier: Apache-2.0
// Programs that need a UDP port for each socket, and many of them.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

extension Evidence {
    /// Programs with a large part of the ports, one diagnosis each.
    func udpProgramFindings(_ pressure: SourcePressure, _ namespace: NamespaceSurvey)
        -> [Finding]
    {
        let large = max(1, pressure.filling.used / 4)
        return owners.count(namespace.udp.inodes).prefix(3).compactMap { pid, sockets in
            guard sockets >= large, let process = ProcessIdentity(pid: pid) else { return nil }
            return Finding(
                .info, .udpProgramNearLimit,
                "\(process.name) has \(amount(sockets, "UDP socket")) that share no port, of the \(grouped(pressure.filling.possible)) that fit",
                in: namespace.namespace, protocolName: "udp",
                numbers: ["sockets": sockets, "possible": pressure.filling.possible],
                processes: [.init(process, amount(sockets, "socket"))],
                remedies: [
                    .init(
                        "Let the guard choose its ports: then each serves every destination once, and no two of its sockets get one 4-tuple. The program stays as it is.",
                        "tupleguard attach --discover all \(cgroupName(ofProcess: pid))")
                ])
        }
    }
}
