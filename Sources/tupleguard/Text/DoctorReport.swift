// SPDX-License-Identifier: Apache-2.0
// What the doctor found as JSON. Its field names are stable.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardRecords
import TupleguardSockets

/// An examination.
struct DoctorReport: Encodable {
    struct NamespaceReport: Encodable {
        let name: String
        let possiblePorts: Int
        let sources: [SourceReport]
        let destinations: [DestinationReport]
        /// What source NAT has given out.
        let translations: [TranslationReport]
        /// Nil where the kernel tracks no connections; 0 possible: as many as there is memory for.
        let conntrack: ConntrackReport?
    }

    struct TranslationReport: Encodable {
        let `protocol`: String
        let source: String
        let remote: String
        let used: Int
        let possible: Int
        let mappings: Int
        let sockets: Int
        let timeWait: Int
        let perSecond: Double?
        let secondsUntilFull: Double?
    }

    struct ConntrackReport: Encodable {
        let tracked: Int
        let possible: Int
    }

    struct ExhaustionReport: Encodable {
        let kind: Finding.Kind
        let what: String
        let networkNamespaceName: String
        let used: Int
        let possible: Int
        let usage: Double
        let secondsUntilFull: Double?
    }

    struct SourceReport: Encodable {
        let `protocol`: String
        let address: String
        let ports: Int
        let sharedPorts: Int
        let sockets: Int
        let timeWait: Int
    }

    struct DestinationReport: Encodable {
        let `protocol`: String
        let local: String
        let remote: String
        let used: Int
        let possible: Int
        let timeWait: Int
        let perSecond: Double?
        let secondsUntilFull: Double?
        /// The processes with the most of the sockets; none where these were not looked at.
        let holders: [HolderReport]
    }

    struct HolderReport: Encodable {
        let pid: Int32
        let command: String
        let sockets: Int
    }

    let status: String
    /// What runs out first, at the present rates.
    let firstToRunOut: ExhaustionReport?
    let findings: [Finding]
    let namespaces: [NamespaceReport]
    let unseen: [String]

    init(_ examination: Examination) {
        status =
            switch examination.worst {
            case .critical: "critical"
            case .warning: "warnings"
            case .info, nil: "fine"
            }
        findings = examination.findings
        unseen = examination.unseen
        firstToRunOut = examination.firstToRunOut.map(ExhaustionReport.init)
        let evidence = examination.evidence
        namespaces = evidence.survey.namespaces.map { survey in
            NamespaceReport(
                name: survey.namespace.name, possiblePorts: survey.settings.possible,
                sources: survey.tcp.sources.map { SourceReport("tcp", $0) }
                    + survey.udp.sources.map { SourceReport("udp", $0) },
                destinations: evidence.pressures(survey).map { pressure in
                    DestinationReport(pressure, evidence.holders(of: pressure))
                },
                translations: evidence.translationPressures(survey).map(TranslationReport.init),
                conntrack: survey.translation.map {
                    ConntrackReport(tracked: $0.tracked, possible: $0.limit)
                })
        }
    }
}

extension DoctorReport.SourceReport {
    init(_ name: String, _ source: TransportSurvey.Source) {
        self.init(
            protocol: name, address: source.address.description, ports: source.ports,
            sharedPorts: source.sharedPorts, sockets: source.sockets, timeWait: source.timeWait)
    }
}

extension DoctorReport.DestinationReport {
    init(_ pressure: DestinationPressure, _ holders: [Evidence.Holder]) {
        self.init(
            protocol: pressure.name.lowercased(), local: pressure.source,
            remote: pressure.remote.description, used: pressure.filling.used,
            possible: pressure.filling.possible, timeWait: pressure.destination.timeWait,
            perSecond: pressure.filling.rate, secondsUntilFull: pressure.filling.secondsUntilFull,
            holders: holders.map {
                .init(pid: $0.process.pid, command: $0.process.name, sockets: $0.sockets)
            })
    }
}

extension DoctorReport.TranslationReport {
    init(_ pressure: TranslationPressure) {
        self.init(
            protocol: pressure.destination.transport.name, source: pressure.source.description,
            remote: pressure.remote.description, used: pressure.filling.used,
            possible: pressure.filling.possible, mappings: pressure.destination.used,
            sockets: pressure.ownSockets, timeWait: pressure.destination.timeWait,
            perSecond: pressure.filling.rate, secondsUntilFull: pressure.filling.secondsUntilFull)
    }
}

extension DoctorReport.ExhaustionReport {
    init(_ exhaustion: Exhaustion) {
        self.init(
            kind: exhaustion.kind, what: exhaustion.what,
            networkNamespaceName: exhaustion.namespace.name, used: exhaustion.filling.used,
            possible: exhaustion.filling.possible, usage: exhaustion.filling.usage,
            secondsUntilFull: exhaustion.secondsUntilFull)
    }
}
