// SPDX-License-Identifier: Apache-2.0
// What the doctor found as JSON. Its field names are stable.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardSockets

/// An examination.
struct DoctorReport: Encodable {
    struct NamespaceReport: Encodable {
        let name: String
        let possiblePorts: Int
        let sources: [SourceReport]
        let destinations: [DestinationReport]
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
    }

    let status: String
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
        let evidence = examination.evidence
        namespaces = evidence.survey.namespaces.map { survey in
            NamespaceReport(
                name: survey.namespace.name, possiblePorts: survey.settings.possible,
                sources: survey.tcp.sources.map { SourceReport("tcp", $0) }
                    + survey.udp.sources.map { SourceReport("udp", $0) },
                destinations: evidence.pressures(survey).map(DestinationReport.init))
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
    init(_ pressure: DestinationPressure) {
        self.init(
            protocol: pressure.name.lowercased(), local: pressure.source,
            remote: pressure.remote.description, used: pressure.filling.used,
            possible: pressure.filling.possible, timeWait: pressure.destination.timeWait,
            perSecond: pressure.filling.rate, secondsUntilFull: pressure.filling.secondsUntilFull)
    }
}
