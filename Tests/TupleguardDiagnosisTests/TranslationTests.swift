// SPDX-License-Identifier: Apache-2.0
// Source NAT's ports, counted in little memory, and what is made of two looks at them.

import Testing
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardConntrack
@testable import TupleguardDiagnosis
@testable import TupleguardHostSurvey

private let here = "192.0.2.1"

private func record(
    _ port: Int, to remote: String = "198.51.100.7:443", zone: UInt16 = 0, isTimeWait: Bool = false
) -> ConntrackRecord {
    .init(
        transport: .tcp,
        outer: FourTuple(local: Endpoint("\(here):\(port)")!, remote: Endpoint(remote)!),
        zone: zone, isSourceTranslated: true, isTimeWait: isTimeWait)
}

private func translation(_ records: some Sequence<ConntrackRecord>) -> TranslationSurvey {
    var tally = TranslationTally()
    for record in records { tally.add(record) }
    return tally.finish()
}

private func evidence(
    _ translation: TranslationSurvey?, before: TranslationSurvey? = nil,
    ports: ClosedRange<UInt16> = 20_000...20_999,
    _ change: (inout NamespaceSurvey) -> Void = { _ in }
) throws -> Evidence {
    func survey(_ translation: TranslationSurvey?) throws -> Survey {
        var namespace = NamespaceSurvey(
            namespace: NetworkNamespace(path: "/proc/self/ns/net")!, settings: PortSettings())
        namespace.translation = translation
        change(&namespace)
        var survey = try Survey(.own, [])
        survey.namespaces = [namespace]
        return survey
    }
    let earlier = try before.map { try survey($0) }
    sleep(seconds: 0.01)
    var evidence = Evidence(
        survey: try survey(translation), earlier: earlier, owners: SocketOwners(of: []),
        shadowOwners: SocketOwners(of: []), descriptors: [], files: nil,
        guardSight: .unseen("not asked"), cgroupPath: { _ in nil })
    evidence.translationPorts = ports
    return evidence
}

@Suite struct TranslationTests {
    @Test("The busiest first, each with its own ports and those of connections that are over")
    func counts() {
        let survey = translation(
            (1...30).map { record($0) }
                + (1...40).map { record($0, to: "198.51.100.8:443", isTimeWait: $0 > 30) })
        #expect(survey.destinations.map(\.used) == [40, 30])
        #expect(survey.destinations.map(\.timeWait) == [10, 0])
        #expect(survey.destinations[1].pair.source.description == here)
        #expect(survey.undercount == 0)
    }

    @Test("Zones are tables of their own: the fullest stands for them")
    func zones() {
        let survey = translation(
            (1...30).map { record($0, zone: 1) } + (1...20).map { record($0, zone: 2) })
        #expect(survey.destinations.map(\.used) == [30])
    }

    @Test("A crowd of destinations takes no memory, and hides none that matters")
    func crowd() throws {
        var tally = TranslationTally(limit: 100)
        for index in 0..<10_000 {
            tally.add(record(1, to: "10.\(index >> 8).\(index & 255).1:80"))
            if index % 10 == 0 { tally.add(record(1024 + index / 10)) }
        }
        let survey = tally.finish()
        let busiest = try #require(survey.destinations.first)
        #expect(busiest.pair.remote.description == "198.51.100.7:443")
        #expect(survey.undercount > 0 && survey.undercount <= 11_000 / 100)
        #expect((1000 - survey.undercount...1000).contains(busiest.used))
        #expect(try evidence(survey).unseen().contains { $0.hasPrefix("up to ") })
    }

    @Test("Two looks tell about how many connections ended", arguments: [0, 8000, 32_000])
    func ended(_ gone: Int) throws {
        let before = translation((1024..<33_024).map { record($0) })
        let after = translation((1024 + gone..<33_024 + gone).map { record($0) })
        let ended = after.destinations[0].ended(since: before.destinations[0])
        #expect(abs(ended - gone) <= gone / 4)
    }

    @Test(arguments: [(699, nil), (700, .warning), (900, .critical)] as [(Int, Severity?)])
    func portsRunOut(_ used: Int, _ severity: Severity?) throws {
        let findings = try evidence(translation((1...used).map { record($0) })).findings()
        #expect(findings.map(\.severity) == (severity.map { [$0] } ?? []))
        guard let finding = findings.first else { return }
        #expect(finding.kind == .translationFilling)
        #expect(finding.numbers["mappings"] == used && finding.numbers["possible"] == 1000)
        #expect(finding.remedies.first?.code == "snat to 192.0.2.1-LAST_ADDRESS")
    }

    @Test("As many that come as go are no trend; more that come are")
    func trend() throws {
        func first(_ before: Range<Int>, _ after: Range<Int>) throws -> Exhaustion? {
            try evidence(
                translation(after.map { record($0) }),
                before: translation(before.map { record($0) }),
                ports: 1024...65_535
            ).firstToRunOut()
        }
        let churn = try first(1024..<31_024, 11_024..<41_044)
        #expect(churn?.secondsUntilFull == nil && churn?.filling.rate ?? 0 > 0)
        let growth = try first(1024..<31_024, 1024..<41_044)
        #expect(growth?.secondsUntilFull != nil)
    }

    @Test("Sockets and source NAT are compared: what is full first comes first")
    func firstOut() throws {
        let busy = TransportSurvey.Destination(
            pair: .init(source: IPAddress(here)!, remote: Endpoint("198.51.100.7:443")!),
            used: 15_000, timeWait: 0, freshTimeWait: 0, locked: 0, inodes: [])
        let nat = translation((1...400).map { record($0) })
        // 15,000 of 28,232 against 400 of 1,000; and together, since both are at one address.
        let sockets = try evidence(nat, ports: 1024...65_535) { $0.tcp.destinations = [busy] }
        #expect(sockets.firstToRunOut()?.kind == .destinationFilling)
        #expect(
            sockets.translationPressures(sockets.survey.namespaces[0]).map(\.filling.used)
                == [15_400])
        #expect(try evidence(nat).firstToRunOut()?.kind == .translationFilling)
        #expect(try evidence(nil).firstToRunOut() == nil)
    }

    @Test(
        arguments: [(100, 0, nil), (69, 100, nil), (70, 100, .warning), (100, 100, .critical)]
            as [(Int, Int, Severity?)])
    func theTableOfConnections(_ tracked: Int, _ limit: Int, _ severity: Severity?) throws {
        var survey = TranslationSurvey()
        survey.tracked = tracked
        survey.limit = limit
        let evidence = try evidence(survey)
        let findings = evidence.findings()
        #expect(findings.map(\.severity) == (severity.map { [$0] } ?? []))
        #expect(evidence.firstToRunOut()?.kind == (limit > 0 ? .conntrackTable : nil))
        guard let finding = findings.first else { return }
        #expect(finding.kind == .conntrackTable)
        #expect(finding.what.contains("is full") == (tracked == limit))
        #expect(
            finding.remedies.first?.code
                == "sysctl -w net.netfilter.nf_conntrack_max=\(limit * 2)")
    }

    @Test func whatCouldNotBeListedIsSaid() throws {
        var survey = TranslationSurvey()
        survey.tracked = 7
        survey.fault = "no right"
        #expect(
            try evidence(survey).unseen().contains(
                "which of 7 tracked connections in this network namespace source NAT has given a port: no right"
            ))
    }
}
