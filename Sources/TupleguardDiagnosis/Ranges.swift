// SPDX-License-Identifier: Apache-2.0
// Ranges of ports that are small or in pieces, and sockets that lock a port for one destination.

import TupleguardHostSurvey
import TupleguardSockets

extension Evidence {
    /// Half of the kernel's default.
    static let smallRange = 14_116
    /// From which part of the range reserved ports are worth a word.
    static let reservedShare = 0.25
    static let manyPieces = 100

    func rangeFindings(_ namespace: NamespaceSurvey) -> [Finding] {
        let settings = namespace.settings
        var findings: [Finding] = []
        let range = "\(settings.range.lowerBound) to \(settings.range.upperBound)"
        if settings.possible < Self.smallRange {
            findings.append(
                Finding(
                    settings.possible == 0 ? .critical : .warning, .smallRange,
                    settings.possible == 0
                        ? "there are no ephemeral ports: every connect() fails that names none"
                        : "only \(amount(settings.possible, "ephemeral port")) to each destination",
                    in: namespace.namespace,
                    numbers: [
                        "possible": settings.possible, "lowest": Int(settings.range.lowerBound),
                        "highest": Int(settings.range.upperBound),
                        "reserved": settings.reservedCount,
                    ],
                    notes: [
                        "ip_local_port_range is \(range), less \(grouped(settings.reservedCount)) reserved; the default is 32768 to 60999"
                    ],
                    remedies: rangeRemedies(namespace)))
        }
        if Double(settings.reservedCount) >= Self.reservedShare * Double(settings.range.count)
            || settings.pieces >= Self.manyPieces
        {
            findings.append(fragmented(namespace, range))
        }
        return findings
    }

    private func fragmented(_ namespace: NamespaceSurvey, _ range: String) -> Finding {
        let settings = namespace.settings
        return Finding(
            .info, .fragmentedRange,
            "\(grouped(settings.reservedCount)) of \(grouped(settings.range.count)) ephemeral ports are reserved, which leaves \(amount(settings.pieces, "piece"))",
            in: namespace.namespace,
            numbers: [
                "reserved": settings.reservedCount, "range": settings.range.count,
                "pieces": settings.pieces, "possible": settings.possible,
            ],
            notes: [
                "bind() and connect() walk over reserved ports one by one; the range is \(range)"
            ],
            remedies: [
                .init(
                    "Reserve ports outside the range, or move the range away from them.",
                    "\(namespace.namespace.commandPrefix)sysctl net.ipv4.ip_local_reserved_ports net.ipv4.ip_local_port_range"
                )
            ])
    }

    // MARK: - Locked ports

    /// In C.
    static let bindWithoutPort = """
        int on = 1;
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        """

    /// A few such sockets are nobody's problem.
    static let fewLocked = 16

    /// Sockets bound to port 0 before they connect: each keeps its port from every other destination.
    ///
    /// SOCK_DIAG does not tell whether a socket was bound. But bind() chooses ports of one parity and connect()
    /// those of the other, while there are some (see `TransportSurvey.SolePort`). So the count is right
    /// for programs that let bind() choose, half of it for those that choose themselves.
    func lockedPorts(_ namespace: NamespaceSurvey) -> [Finding] {
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
            "\(process.command) locks \(amount(locked, "TCP port")) for one destination each: it binds before it connects",
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
