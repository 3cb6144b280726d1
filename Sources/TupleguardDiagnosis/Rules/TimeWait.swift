// SPDX-License-Identifier: Apache-2.0
// Ports held by connections that are over.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

extension Evidence {
    static let timeWaitShare = 0.5
    static let timeWaitUsage = 0.5

    /// Most of many ports are held by connections that are over.
    func timeWaitFinding(_ pressure: DestinationPressure) -> Finding? {
        let settings = pressure.namespace.settings
        let held = pressure.filling
        guard pressure.transport == .tcp, pressure.timeWaitShare >= Self.timeWaitShare,
            held.usage >= Self.timeWaitUsage,
            !settings.reusesTimeWait(to: pressure.remote.address)
        else { return nil }
        let prefix = pressure.namespace.namespace.commandPrefix
        var remedies = [
            Finding.Remedy(
                "Keep connections open and use them again (keep-alive, a pool): then nothing is closed."
            )
        ]
        if !settings.hasTimestamps {
            remedies.append(
                .init(
                    "Turn timestamps on: without them no port in TIME_WAIT is used again.",
                    "\(prefix)sysctl -w net.ipv4.tcp_timestamps=1"))
        }
        if settings.timeWaitReuse != 1 {
            remedies.append(
                .init(
                    "Let connect() take ports that have been in TIME_WAIT for a second. This is safe: timestamps tell old segments from new.",
                    "\(prefix)sysctl -w net.ipv4.tcp_tw_reuse=1"))
        }
        return Finding(
            held.usage >= Filling.nearlyFull ? .critical : .warning, .timeWait,
            "\(percent(pressure.timeWaitShare)) of the connections from \(pressure.source) to \(pressure.remote) are in TIME_WAIT",
            in: pressure.namespace.namespace, protocolName: "tcp", local: pressure.source,
            remote: pressure.remote.description,
            numbers: [
                "time_wait": pressure.destination.timeWait, "used": pressure.destination.used,
                "possible": held.possible, "tcp_tw_reuse": settings.timeWaitReuse ?? -1,
            ],
            usage: held.usage,
            notes: [
                "\(grouped(pressure.destination.timeWait)) of \(grouped(pressure.destination.used)) connections are over, and hold their port for a minute (tcp_tw_reuse is \(settings.timeWaitReuse ?? 0))"
            ],
            remedies: remedies)
    }
}
