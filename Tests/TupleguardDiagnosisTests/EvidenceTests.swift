// SPDX-License-Identifier: Apache-2.0
// What is made of evidence that no host here has: nearly all files open, a dozen shadows, two
// looks.

import Glibc
import Testing
import TupleguardKernel
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardDiagnosis
@testable import TupleguardHostSurvey

private let own = NetworkNamespace(path: "/proc/self/ns/net")!
/// Not a network namespace, but it has a path and an inode.
private let other = NetworkNamespace(path: "/proc/self/ns/mnt")!

private func survey(
    _ namespaces: [NamespaceSurvey], unseen: [(namespace: NetworkNamespace, why: String)] = [],
    hasHiddenProcesses: Bool = false
) throws -> Survey {
    var survey = try Survey(.own, [])
    survey.hasHiddenProcesses = hasHiddenProcesses
    survey.namespaces = namespaces
    survey.unseen = unseen
    return survey
}

private func evidence(
    _ namespaces: NamespaceSurvey..., before: [NamespaceSurvey]? = nil,
    unseen: [(namespace: NetworkNamespace, why: String)] = [], hasHiddenProcesses: Bool = false,
    descriptors: [DescriptorUse] = [], files: HostFiles? = nil,
    guardSight: GuardSight<GuardFacts> = .unseen("not asked"),
    cgroups: [UInt64: String] = [:]
) throws -> Evidence {
    let earlier = try before.map { try survey($0) }
    return Evidence(
        survey: try survey(namespaces, unseen: unseen, hasHiddenProcesses: hasHiddenProcesses),
        earlier: earlier,
        owners: SocketOwners(of: []), shadowOwners: SocketOwners(of: []),
        descriptors: descriptors, files: files, guardSight: guardSight,
        cgroupPath: { cgroups[$0] })
}

/// A namespace with so many ports, of which these are reserved.
private func namespace(
    _ namespace: NetworkNamespace = own, ports: ClosedRange<UInt16> = 20_000...60_999,
    reserved: [ClosedRange<UInt16>] = [], _ change: (inout NamespaceSurvey) -> Void = { _ in }
) -> NamespaceSurvey {
    var settings = PortSettings()
    settings.range = ports
    settings.reserve(
        reserved.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ","))
    return make(namespace, settings, change)
}

private func make(
    _ namespace: NetworkNamespace, _ settings: PortSettings,
    _ change: (inout NamespaceSurvey) -> Void
) -> NamespaceSurvey {
    var survey = NamespaceSurvey(namespace: namespace, settings: settings)
    change(&survey)
    return survey
}

private func destination(
    _ used: Int, timeWait: Int = 0, to remote: String = "192.0.2.1:443"
) -> TransportSurvey.Destination {
    .init(
        pair: .init(source: IPAddress(v4: 198, 51, 100, 1), remote: Endpoint(remote)!),
        used: used, timeWait: timeWait, freshTimeWait: 0, locked: 0, inodes: [])
}

private func source(_ ports: Int, shared: Int = 0, last: UInt8 = 1) -> TransportSurvey.Source {
    .init(
        address: IPAddress(v4: 198, 51, 100, last), ports: ports, sharedPorts: shared,
        sockets: ports + shared, timeWait: 0)
}

/// Two sockets with one tuple, of these cgroups.
private func shadow(_ port: Int = 5000, cgroups: (UInt64, UInt64) = (0, 0)) -> Shadow {
    let (local, remote) = ("198.51.100.1:\(port)", "192.0.2.1:53")
    let receiver = makeSocketRecord(local, remote, cookie: UInt32(port), cgroup: cgroups.0)
    let loser = makeSocketRecord(local, remote, cookie: UInt32(port) + 1, cgroup: cgroups.1)
    return makeShadow([receiver, loser], in: own)
}

extension Evidence {
    fileprivate func findings(_ kind: Finding.Kind) -> [Finding] {
        findings().filter { $0.kind == kind }
    }
}

@Suite struct EvidenceTests {
    @Test(
        arguments: [
            (79, nil), (80, .warning), (94, .warning), (95, .critical),
        ] as [(Int, Severity?)])
    func theHostsFilesRunOut(_ open: Int, _ severity: Severity?) throws {
        let found = try evidence(files: HostFiles(open: open, limit: 100)).findings()
        #expect(found.map(\.severity) == (severity.map { [$0] } ?? []))
        guard let finding = found.first else { return }
        #expect(finding.kind == .hostFiles)
        #expect(finding.numbers == ["open": open, "limit": 100])
        #expect(finding.usage == Double(open) / 100)
        #expect(finding.remedies.map(\.code) == ["sysctl -w fs.file-max=400"])
        #expect(try evidence(files: nil).findings().isEmpty)
    }

    @Test func theFullestProcessesAreNamed() throws {
        let uses = (0..<12).map { number in
            DescriptorUse(pid: getpid(), open: 85 + number, limit: 100, hardLimit: 200)
        }
        let found = try evidence(descriptors: uses).findings()
        #expect(found.map { $0.numbers["open"] } == (87...96).reversed().map { $0 })
        #expect(found.map { $0.severity == .critical } == (0..<10).map { $0 < 2 })
    }

    @Test func theMostUrgentIsFirstWhereverItIsFrom() throws {
        let found = try evidence(
            namespace(ports: 40_000...40_999) { $0.tcp.destinations = [destination(750)] },
            namespace(other, ports: 40_000...40_999) { $0.tcp.destinations = [destination(950)] },
            files: HostFiles(open: 97, limit: 100)
        ).findings()
        #expect(
            found.map(\.kind) == [
                .hostFiles, .destinationFilling, .destinationFilling, .smallRange, .smallRange,
            ])
        #expect(found.map(\.severity) == [.critical, .critical, .warning, .warning, .warning])
    }

    // MARK: - Two looks

    /// One that was not among the busiest had no more than the least of them.
    @Test(arguments: [(60, true, 0.0), (10, true, 50), (60, false, 60)])
    func aDestinationThatIsNew(_ least: Int, _ hasMore: Bool, _ grown: Double) throws {
        let earlier = namespace {
            $0.tcp.destinations = [destination(least, to: "192.0.2.9:1")]
            $0.tcp.hasMoreDestinations = hasMore
        }
        let evidence = try evidence(
            namespace { $0.tcp.destinations = [destination(60)] }, before: [earlier])
        let rate = try #require(
            evidence.pressures(evidence.survey.namespaces[0]).first?.filling.rate)
        #expect(abs(rate * evidence.seconds - grown) < 0.001)
    }

    @Test func aSourceThatIsNewHadNone() throws {
        let found = try evidence(
            namespace(ports: 40_000...40_999) { $0.udp.sources = [source(750)] },
            before: [namespace()])
        let finding = try #require(found.findings(.sourceFilling).first)
        #expect(finding.numbers["per_second"] ?? 0 > 0)
    }

    @Test func namespacesAreComparedWithThemselves() throws {
        func both() -> [NamespaceSurvey] {
            [
                namespace { $0.tcp.destinations = [destination(50)] },
                namespace(other) { $0.tcp.destinations = [destination(80)] },
            ]
        }
        let evidence = try evidence(both()[0], both()[1], before: both())
        for namespace in evidence.survey.namespaces {
            #expect(evidence.pressures(namespace).map(\.filling.rate) == [0])
        }
    }

    // MARK: - TIME_WAIT

    private func findings(
        used: Int, timeWait: Int, to remote: String, reuse: Int, timestamps: Bool
    ) throws -> Evidence {
        var settings = PortSettings()
        settings.range = 20_000...60_999
        settings.timeWaitReuse = reuse
        settings.hasTimestamps = timestamps
        return try evidence(
            make(own, settings) {
                $0.tcp.destinations = [destination(used, timeWait: timeWait, to: remote)]
            })
    }

    /// What holds a port is what tcp_tw_reuse does not give out again.
    @Test(
        arguments: [
            ("192.0.2.1:1", 0, true, true), ("192.0.2.1:1", 1, true, false),
            ("192.0.2.1:1", 2, true, true), ("127.0.0.9:1", 2, true, false),
            ("[::1]:1", 2, true, false), ("[2001:db8::1]:1", 2, true, true),
            ("192.0.2.1:1", 1, false, true), ("127.0.0.9:1", 2, false, true),
        ])
    func timeWaitHoldsPortsUnlessTheyAreReused(
        _ remote: String, _ reuse: Int, _ timestamps: Bool, _ isHeld: Bool
    ) throws {
        let evidence = try findings(
            used: 33_000, timeWait: 32_000, to: remote, reuse: reuse, timestamps: timestamps)
        #expect(evidence.findings(.timeWait).count == (isHeld ? 1 : 0))
        #expect(evidence.findings(.destinationFilling).count == (isHeld ? 1 : 0))
        let codes = evidence.findings(.timeWait).first?.remedies.compactMap(\.code) ?? []
        #expect(codes.contains("sysctl -w net.ipv4.tcp_tw_reuse=1") == (isHeld && reuse != 1))
        #expect(codes.contains("sysctl -w net.ipv4.tcp_timestamps=1") == !timestamps)
    }

    @Test(
        arguments: [
            (20_400, 20_400, 0), (20_600, 10_200, 0), (20_600, 10_400, 1), (38_000, 38_000, 1),
        ])
    func aFewInTimeWaitAreNobodysProblem(_ used: Int, _ timeWait: Int, _ count: Int) throws {
        let found = try findings(
            used: used, timeWait: timeWait, to: "192.0.2.1:1", reuse: 0, timestamps: true
        ).findings(.timeWait)
        #expect(found.map(\.severity) == (count == 0 ? [] : [used > 36_900 ? .critical : .warning]))
    }

    // MARK: - Ports

    @Test func theFullestAddressStandsForAll() throws {
        let found = try evidence(
            namespace(ports: 40_000...40_999) {
                $0.udp.sources = [source(10, last: 1), source(750, last: 2), source(9, last: 3)]
            }
        ).findings(.sourceFilling)
        #expect(found.map(\.local) == ["198.51.100.2"])
        #expect(found.map { $0.numbers["used"] } == [750])
    }

    @Test func widerRangesAreAdvisedWhereTheyWouldHelp() throws {
        let widen = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""
        func codes(_ ports: ClosedRange<UInt16>) throws -> [String?] {
            try evidence(
                namespace(ports: ports) { $0.tcp.destinations = [destination(63_000)] }
            ).findings(.destinationFilling).flatMap { $0.remedies.map(\.code) }
        }
        #expect(try codes(20_000...60_999).contains(widen))
        #expect(try !codes(1024...65_535).contains(widen))
    }

    @Test func aLargeRangeIsSmallWhenMostOfItIsReserved() throws {
        func kinds(_ reserved: ClosedRange<UInt16>...) throws -> [Finding.Kind] {
            try evidence(namespace(reserved: reserved)).findings().map(\.kind)
        }
        #expect(try kinds(20_000...46_884) == [.smallRange, .fragmentedRange])
        #expect(try kinds(20_000...46_883) == [.fragmentedRange])
        // A quarter of the range, and one less.
        #expect(try kinds(20_000...30_249) == [.fragmentedRange])
        #expect(try kinds(20_000...30_248) == [])
    }

    @Test(arguments: [(98, 0), (99, 1)])
    func aFewPortsInManyPlacesBreakTheRange(_ holes: Int, _ count: Int) throws {
        let reserved = (1...holes).map { 20_000 + UInt16($0) * 10 }.map { $0...$0 }
        let found = try evidence(namespace(reserved: reserved)).findings()
        #expect(found.map(\.kind) == [Finding.Kind](repeating: .fragmentedRange, count: count))
    }

    // MARK: - Shadows and the guard

    @Test func manyShadowsAreSummedUp() throws {
        func findings(_ count: Int) throws -> [Finding] {
            try evidence(
                namespace { $0.shadows = (0..<count).map { shadow(5000 + 10 * $0) } }
            ).findings()
        }
        #expect(try findings(10).map(\.local).allSatisfy { $0 != nil })
        let twelve = try findings(12)
        #expect(twelve.count == 11)
        #expect(twelve.last?.numbers == ["tuples": 2])
        #expect(twelve.last?.what == "2 more tuples with several sockets")
    }

    @Test(
        arguments: [
            ((1, 1), "/a/b"), ((1, 2), "/a"), ((1, 3), "/"), ((1, 9), "CGROUP"), ((9, 1), "CGROUP"),
        ] as [((UInt64, UInt64), String)])
    func theCgroupToGuardHasAllOfThem(_ cgroups: (UInt64, UInt64), _ expected: String) throws {
        let found = try evidence(
            namespace { $0.shadows = [shadow(cgroups: cgroups)] },
            cgroups: [1: "/a/b", 2: "/a/bc", 3: "/ab"]
        ).findings(.overshadowed)
        #expect(found.first?.remedies.last?.code == "tupleguard attach \(expected)")
    }

    private func facts(
        claims: Int = 0, refusedOutside: Int = 0, withoutRoom: Int = 0, eventsDropped: Int = 0
    ) -> GuardSight<GuardFacts> {
        .attached(
            GuardFacts(
                cgroups: ["/a"], claims: claims, tableSize: 100, largestTable: 1000,
                eventsDropped: eventsDropped,
                refusedOutside: refusedOutside, withoutRoom: withoutRoom))
    }

    @Test(arguments: [([], 0), (["why"], 0), ([], 2), (["why"], 2)] as [([String], Int)])
    func programsAfterTheGuard(_ remarks: [String], _ rewritten: Int) throws {
        let found = try evidence(
            namespace { _ in },
            guardSight: .attached(
                GuardFacts(
                    cgroups: ["/a"], claims: 0, tableSize: 100, largestTable: 1000,
                    eventsDropped: 0, refusedOutside: 0, withoutRoom: 0, remarks: remarks,
                    refusedRewritten: rewritten))
        ).findings(.guardFollowed)
        #expect(found.count == (remarks.isEmpty && rewritten == 0 ? 0 : 1))
        #expect(found.allSatisfy { $0.notes == remarks && $0.severity == .warning })
        #expect(found.allSatisfy { $0.numbers["refused_rewritten"] == rewritten })
    }

    /// Who shares ports has no guard and may need one; who has one is not told.
    @Test func sharedPortsWithoutAGuard() throws {
        func findings(_ sight: GuardSight<GuardFacts>, shared: Int) throws -> [Finding] {
            try evidence(
                namespace { $0.udp.sources = [source(9, shared: shared)] }, guardSight: sight
            ).findings()
        }
        let found = try findings(.none, shared: 3)
        #expect(found.map(\.kind) == [.unguarded])
        #expect(found.map(\.severity) == [.info])
        #expect(found.first?.numbers == ["shared_ports": 3, "overshadowed_tuples": 0])
        #expect(try findings(.none, shared: 0).isEmpty)
        #expect(try findings(.unseen("why"), shared: 3).isEmpty)
        #expect(try findings(facts(), shared: 3).isEmpty)
    }

    @Test(
        arguments: [
            (0, (1, 1), nil), (0, (1, 2), "/"), (0, (9, 9), nil), (4, (1, 1), "/"),
        ] as [(Int, (UInt64, UInt64), String?)])
    func aGuardIsTooLow(_ refused: Int, _ cgroups: (UInt64, UInt64), _ advice: String?) throws {
        let found = try evidence(
            namespace { $0.shadows = [shadow(cgroups: cgroups)] },
            guardSight: facts(refusedOutside: refused), cgroups: [1: "/a/b", 2: "/ab"]
        ).findings(.guardTooLow)
        try #require(found.count == (advice == nil ? 0 : 1))
        guard let advice else { return }
        #expect(found[0].numbers["refused_outside"] == refused)
        #expect(found[0].notes == ["guarded: /a"])
        #expect(found[0].remedies.map(\.code) == ["tupleguard attach \(advice)"])
    }

    @Test(
        arguments: [
            (79, 0, nil), (80, 0, .warning), (100, 0, .critical), (9, 1, .warning),
        ] as [(Int, Int, Severity?)])
    func theTableIsFull(_ claims: Int, _ without: Int, _ severity: Severity?) throws {
        let found = try evidence(guardSight: facts(claims: claims, withoutRoom: without))
            .findings()
        #expect(found.map(\.severity) == (severity.map { [$0] } ?? []))
        guard let finding = found.first else { return }
        #expect(finding.kind == .guardTableFull)
        #expect(
            finding.numbers == ["claims": claims, "table_size": 100, "without_room": without])
        #expect(finding.what.hasSuffix(without > 0 ? "for 1 connect" : "nearly full"))
    }

    @Test func eventsThatWentUnread() throws {
        let found = try evidence(guardSight: facts(eventsDropped: 3)).findings()
        try #require(found.map(\.kind) == [.guardEventsDropped])
        #expect(found.map(\.severity) == [.info])
        #expect(found[0].numbers == ["events_dropped": 3])
    }

    // MARK: - Cgroups with limits

    private func limited(_ limited: GuardFacts.Limited...) -> GuardSight<GuardFacts> {
        .attached(
            GuardFacts(
                cgroups: limited.map(\.path), claims: 0, tableSize: 100, largestTable: 1000,
                eventsDropped: 0, refusedOutside: 0, withoutRoom: 0, limited: limited))
    }

    @Test(
        arguments: [
            (69, 0, nil), (70, 0, .warning), (90, 2, .critical), (100, 3, .critical),
            (120, 0, .critical),
        ] as [(Int, Int, Severity?)])
    func aBudgetIsSpent(_ used: Int, _ refused: Int, _ severity: Severity?) throws {
        let found = try evidence(
            guardSight: limited(
                .init(
                    path: "/a b", connections: ConnectionBudget(limit: 100, used: used),
                    refusedByBudget: refused, errno: "EAGAIN"))
        ).findings()
        #expect(found.map(\.severity) == (severity.map { [$0] } ?? []))
        guard let finding = found.first else { return }
        #expect(finding.kind == .connectionsFilling)
        #expect(finding.numbers == ["used": used, "possible": 100, "refused": refused])
        #expect(finding.what.contains("EAGAIN") == (used >= 100))
        #expect(finding.notes.count == (refused > 0 ? 2 : 1))
        #expect(
            finding.remedies.last?.code
                == "tupleguard attach --replace --max-connections 200 '/a b'")
    }

    private static let ownPorts: ClosedRange<UInt16> = 10_000...10_099

    /// One where sockets have ports of `own`, to one destination.
    private func using(
        _ own: ClosedRange<UInt16> = ownPorts, reserved: [ClosedRange<UInt16>] = [], tcp: Int = 0,
        timeWait: Int = 0, udp: Int = 0
    ) -> NamespaceSurvey {
        namespace(reserved: reserved) {
            var (ofTCP, ofUDP) = (TransportSurvey(), TransportSurvey())
            ofTCP.destinations = [destination(tcp, timeWait: timeWait)]
            ofUDP.destinations = [destination(udp)]
            $0.ranges = [.init(range: own, tcp: ofTCP, udp: ofUDP)]
        }
    }

    /// They fill by themselves, whatever the kernel chooses from, and TIME_WAIT is among them.
    @Test func portsOfOnesOwnRunOut() throws {
        let sight = limited(.init(path: "/a", ports: Self.ownPorts))
        func findings(tcp: Int = 0, timeWait: Int = 0, udp: Int = 0) throws -> [Finding] {
            try evidence(using(tcp: tcp, timeWait: timeWait, udp: udp), guardSight: sight)
                .findings()
        }
        #expect(try findings(tcp: 69, udp: 69).isEmpty)
        let full = try findings(tcp: 100, timeWait: 20, udp: 70)
        #expect(full.map(\.kind) == [.ownPortsFilling, .ownPortsFilling])
        #expect(full.map(\.severity) == [.critical, .warning])
        #expect(full.map(\.protocolName) == ["tcp", "udp"])
        try #require(full.count == 2)
        #expect(full[0].what.hasSuffix("have run out: connect() gives EADDRNOTAVAIL"))
        #expect(full[0].what.contains("TCP ports of /a (10000-10099)"))
        #expect(full[0].numbers["used"] == 100)
        #expect(full[0].numbers["possible"] == 100)
        #expect(full[0].numbers["time_wait"] == 20)
        #expect(full[0].remote == "192.0.2.1:443")
        #expect(try findings(tcp: 80, timeWait: 60).map(\.kind).contains(.timeWait))
    }

    /// Where each UDP socket has a port to itself, destinations do not tell.
    @Test func portsOfOnesOwnThatAreNotShared() throws {
        let crowded = namespace {
            var ofUDP = TransportSurvey()
            ofUDP.destinations = [destination(1)]
            ofUDP.sources = [source(10, last: 2), source(80)]
            $0.ranges = [.init(range: Self.ownPorts, udp: ofUDP)]
        }
        func evidence(sharing: Bool) throws -> Evidence {
            try TupleguardDiagnosisTests.evidence(
                crowded,
                guardSight: limited(
                    .init(path: "/a", ports: Self.ownPorts, sharesPorts: sharing)))
        }
        #expect(try evidence(sharing: true).findings().isEmpty)
        let found = try evidence(sharing: false).findings()
        try #require(found.map(\.kind) == [.ownPortsFilling])
        #expect(found[0].severity == .warning)
        #expect(found[0].numbers["used"] == 80)
        #expect(found[0].local == "198.51.100.1")
        #expect(found[0].remedies.count == 2)
        for (discover, used) in [(Policy.Discover.all, 1), (.off, 80)] {
            var policy = Policy()
            (policy.ports, policy.discover) = (Self.ownPorts, discover)
            let use = try #require(try evidence(sharing: true).survey.ownPortsUse(policy))
            #expect(use.udp.used == used)
            #expect(use.tcp.used == 0)
            #expect(use.udp.possible == 100)
        }
    }

    @Test(
        arguments: [
            (10_000...10_099, [], nil), (20_000...20_099, [], "20000-20099"),
            (20_000...20_099, [20_000...20_199], nil),
            (20_000...20_099, [20_000...20_050], "20000-20050,20000-20099"),
            (19_000...20_010, [20_000...20_010], nil),
        ] as [(ClosedRange<UInt16>, [ClosedRange<UInt16>], String?)])
    func portsThatTheKernelGivesToOthers(
        _ own: ClosedRange<UInt16>, _ reserved: [ClosedRange<UInt16>], _ advice: String?
    ) throws {
        let found = try evidence(
            using(own, reserved: reserved), guardSight: limited(.init(path: "/a", ports: own))
        ).findings()
        #expect(found.map(\.kind) == (advice == nil ? [] : [.ownPortsUnreserved]))
        guard let finding = found.first, let advice else { return }
        #expect(finding.severity == .info)
        #expect(
            finding.remedies.map(\.code)
                == ["sysctl -w net.ipv4.ip_local_reserved_ports=\"\(advice)\""])
    }

    @Test func portsThatNotEveryProgramMayHave() throws {
        let own: ClosedRange<UInt16> = 1000...1099
        var policy = Policy()
        policy.ports = own
        let remark = try #require(policy.portRemark(Proc(root: "/nowhere")))
        let found = try evidence(
            guardSight: limited(.init(path: "/a", ports: own, portRemark: remark))
        ).findings()
        #expect(found.map(\.kind) == [.ownPortsPrivileged])
        #expect(found.first?.severity == .info)
        #expect(found.first?.notes == [remark])
        #expect(remark.contains("ports 1000-1023 are privileged"))
    }

    @Test func portsThatTwoHave() throws {
        func findings(_ other: ClosedRange<UInt16>) throws -> [Finding] {
            try evidence(
                guardSight: limited(
                    .init(path: "/a", ports: Self.ownPorts), .init(path: "/b", ports: other))
            ).findings()
        }
        #expect(try findings(10_100...10_200).isEmpty)
        let found = try findings(10_050...10_200)
        #expect(found.map(\.kind) == [.ownPortsOverlap])
        #expect(found.map(\.numbers) == [["first": 10_050, "last": 10_099]])
    }

    // MARK: - What was not seen

    @Test func whatWasNotSeenIsSaid() throws {
        #expect(try evidence(guardSight: .none).unseen() == [])
        let blind = try evidence(
            namespace {
                $0.tcp.unlistedSources = 2
                $0.udp.unlistedSources = 1
            }, unseen: (1...5).map { (other, "reason \($0)") }, hasHiddenProcesses: true,
            guardSight: .unseen("no right")
        ).unseen()
        let name = other.name
        #expect(
            blind == [
                "\(name): reason 1; \(name): reason 2; \(name): reason 3; "
                    + "2 more network namespaces; "
                    + "network namespaces of processes that we may not look at",
                "the guard: no right",
                "3 sockets of more than 1,000 source addresses in this network namespace",
            ])
    }
}
