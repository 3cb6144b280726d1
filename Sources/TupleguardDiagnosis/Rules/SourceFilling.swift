// SPDX-License-Identifier: Apache-2.0
// One address whose ports run out for UDP sockets that share none.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSockets

extension Evidence {
    /// UDP sockets that do not share hold their port whatever the destination: the address is what
    /// fills.
    func sourceFindings(_ namespace: NamespaceSurvey) -> [Finding] {
        guard let fullest = survey.fullestSource(namespace, since: earlier),
            let severity = fullest.filling.severity
        else { return [] }
        return [sourceFinding(fullest, namespace, severity)]
            + udpProgramFindings(fullest, namespace)
    }

    private func sourceFinding(
        _ pressure: SourcePressure, _ namespace: NamespaceSurvey, _ severity: Severity
    ) -> Finding {
        let filling = pressure.filling
        let name = address(pressure.source.address)
        let what =
            filling.isFull
            ? "UDP ports at \(name) have run out: sockets that share none get EAGAIN or EADDRINUSE"
            : "UDP ports at \(name) are running out for sockets that share none"
        var note = usageNote(filling)
        if pressure.source.sharedPorts > 0 {
            note += ", \(grouped(pressure.source.sharedPorts)) shared"
        }
        return Finding(
            severity, .sourceFilling, what, in: namespace.namespace, protocolName: "udp",
            local: name,
            numbers: [
                "used": filling.used, "possible": filling.possible,
                "shared": pressure.source.sharedPorts, "sockets": pressure.source.sockets,
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull, notes: [note],
            processes: processes(of: namespace.udp.inodes),
            remedies: [
                .init(
                    "Share ports among destinations, safely: connect with connectx(), of libconnectx or the Swift module Connectx.",
                    "connectx(fd, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL);")
            ] + rangeRemedies(namespace))
    }
}
