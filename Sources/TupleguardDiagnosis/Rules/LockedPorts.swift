// SPDX-License-Identifier: Apache-2.0
// Programs that bind before they connect, and so lock a port for one destination.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords

extension Evidence {
    /// A few such sockets are nobody's problem.
    static let fewLocked = 16

    /// Sockets bound to port 0 before they connect: each keeps its port from every other
    /// destination.
    ///
    /// SOCK_DIAG does not tell whether a socket was bound. But bind() chooses ports of one parity
    /// and connect() those of the other, while there are some (see `TransportSurvey.SolePort`). So
    /// the count is right for programs that let bind() choose, half of it for those that choose
    /// themselves.
    func lockedPortFindings(_ namespace: NamespaceSurvey) -> [Finding] {
        var odd: [Int32: Int] = [:]
        var all: [Int32: Int] = [:]
        for port in namespace.tcp.solePorts {
            guard let pid = owners.processes(of: port.inode).first else { continue }
            all[pid, default: 0] += 1
            if port.isOdd { odd[pid, default: 0] += 1 }
        }
        return odd.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.prefix(5)
            .compactMap { pid, count in
                // When few odd ports are left bind() goes on to the even ones.
                let locked = namespace.tcp.oddPortsAreScarce ? all[pid] ?? count : count
                guard locked >= Self.fewLocked, let process = ProcessIdentity(pid: pid) else {
                    return nil
                }
                return lockedFinding(process, locked, namespace)
            }
    }

    private func lockedFinding(
        _ process: ProcessIdentity, _ locked: Int, _ namespace: NamespaceSurvey
    ) -> Finding {
        let filling = Filling(used: locked, possible: namespace.settings.possible)
        return Finding(
            filling.severity ?? .info, .lockedPorts,
            "\(process.name) locks \(amount(locked, "TCP port")) for one destination each: it binds before it connects",
            in: namespace.namespace, protocolName: "tcp",
            numbers: ["locked": locked, "possible": filling.possible], usage: filling.usage,
            notes: [
                "each could serve every destination; as it is, bind() fails with EADDRINUSE after \(grouped(filling.possible)) connections in all"
            ],
            processes: [.init(process, amount(locked, "socket"))],
            remedies: [
                .init(
                    "Bind to the address only, so that connect() chooses the port. Before bind():",
                    Self.bindWithoutPort),
                .init("Or leave bind() out, or use connectx()."),
            ])
    }
}
