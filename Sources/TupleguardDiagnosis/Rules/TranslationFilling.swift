// SPDX-License-Identifier: Apache-2.0
// Source NAT that runs out of ports to one destination, and tables of connections that fill.

import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

extension Evidence {
    func translationFinding(_ pressure: TranslationPressure) -> Finding? {
        let filling = pressure.filling
        guard let severity = filling.severity else { return nil }
        let what =
            filling.isFull
            ? "\(pressure.title) have run out: the packets of new connections are dropped"
            : "\(pressure.title) are running out"
        return Finding(
            severity, .translationFilling, what, in: pressure.namespace.namespace,
            protocolName: pressure.destination.transport.name,
            local: pressure.source.description, remote: pressure.remote.description,
            numbers: [
                "used": filling.used, "possible": filling.possible,
                "mappings": pressure.destination.used, "sockets": pressure.ownSockets,
                "time_wait": pressure.destination.timeWait,
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull,
            notes: [translationNote(pressure), Self.triesNote],
            remedies: translationRemedies(pressure))
    }

    /// nf_nat_l4proto_unique_tuple: 128 tries, then 64, 32 and 16 from other places.
    private static let triesNote =
        "for each connection source NAT tries 240 ports at most, and then drops its packet: some fail before the last port is gone"

    private func translationNote(_ pressure: TranslationPressure) -> String {
        let filling = pressure.filling
        var note =
            "\(grouped(filling.used)) of \(grouped(filling.possible)) ports (\(translationPorts.lowerBound) to \(translationPorts.upperBound); --snat-ports where a rule has others)"
        if pressure.ownSockets > 0 {
            note += ", \(grouped(pressure.ownSockets)) of them of this host's own sockets"
        }
        if pressure.destination.timeWait > 0 {
            note += ", \(grouped(pressure.destination.timeWait)) in TIME_WAIT"
        }
        if let rate = rateText(filling.rate) { note += ", \(rate)" }
        return note
    }

    private func translationRemedies(_ pressure: TranslationPressure) -> [Finding.Remedy] {
        [
            .init(
                "Let the rule choose among several addresses: each has ports of its own to every destination. In nftables:",
                "snat to \(pressure.source)-LAST_ADDRESS"),
            .init(
                "Use more destinations (addresses or ports of the service), or let those behind NAT reach it with addresses of their own."
            ),
            .init(
                pressure.destination.transport == .tcp
                    ? "Keep connections open and use them again (keep-alive, a pool)."
                    : "Let programs use one socket for many requests: a mapping is kept for half a minute after its last packet, two minutes after an exchange."
            ),
        ]
    }

    /// The table of tracked connections is full: the first packet of every new one is dropped.
    func trackingFinding(_ namespace: NamespaceSurvey) -> Finding? {
        guard let filling = tracking(namespace), let severity = filling.severity else { return nil }
        let prefix = namespace.namespace.commandPrefix
        return Finding(
            severity, .conntrackTable,
            filling.isFull
                ? "the table of tracked connections is full: packets of new connections are dropped"
                : "the table of tracked connections is nearly full",
            in: namespace.namespace,
            numbers: [
                "tracked": filling.used, "possible": filling.possible,
                "per_second": Int((filling.rate ?? 0).rounded()),
            ],
            usage: filling.usage, secondsUntilFull: filling.secondsUntilFull,
            notes: [
                "\(grouped(filling.used)) of \(grouped(filling.possible)) connections (nf_conntrack_max)"
                    + (rateText(filling.rate).map { ", \($0)" } ?? "")
            ],
            remedies: [
                .init(
                    "Raise it, for the whole host; a connection takes some 320 bytes.",
                    "sysctl -w net.netfilter.nf_conntrack_max=\(filling.possible * 2)"),
                .init("See what fills it.", "\(prefix)conntrack -L | head -1000"),
            ])
    }
}
