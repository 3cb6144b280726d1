// SPDX-License-Identifier: Apache-2.0
// The doctor, in namespaces that have one thing wrong with them, or nothing.

import Foundation
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Doctors {
        private struct Diagnosis {
            let status: Int32
            let findings: [[String: Any]]
            let report: [String: Any]

            func findings(_ kind: String) -> [[String: Any]] {
                findings.filter { $0["kind"] as? String == kind }
            }
            var kinds: [String] { findings.compactMap { $0["kind"] as? String } }

            /// Of the one namespace that was looked at: its "sources" or "destinations".
            func list(_ name: String) -> [[String: Any]] {
                let namespaces = report["namespaces"] as? [[String: Any]] ?? []
                return namespaces.first?[name] as? [[String: Any]] ?? []
            }
        }

        private func diagnose(_ sandbox: Sandbox, sample: String = "0", asNobody: Bool = false)
            throws -> Diagnosis
        {
            let outcome = try sandbox.tupleguard(
                "doctor", "--namespace", "self", "--sample", sample, "--json", asNobody: asNobody)
            let report = try #require(
                try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
                    as? [String: Any], "\(outcome.errors)")
            return Diagnosis(
                status: outcome.status,
                findings: try #require(report["findings"] as? [[String: Any]]), report: report)
        }

        private func number(_ finding: [String: Any], _ name: String) -> Int? {
            (finding["numbers"] as? [String: Any])?[name] as? Int
        }

        private func codes(_ finding: [String: Any]) -> [String] {
            (finding["remedies"] as? [[String: Any]] ?? []).compactMap { $0["code"] as? String }
        }

        private func pids(_ finding: [String: Any]) -> [Int32] {
            (finding["processes"] as? [[String: Any]] ?? []).compactMap {
                ($0["pid"] as? Int).map { Int32($0) }
            }
        }

        @Test func findsNothingWhereThereIsNothing() throws {
            try Sandbox.run { sandbox in
                let empty = try diagnose(sandbox)
                #expect(empty.kinds == [])
                #expect(empty.status == 0)
                #expect(empty.report["status"] as? String == "fine")
                #expect((empty.report["unseen"] as? [Any])?.isEmpty == true)
                // Ordinary company: servers, connections by all three ways, UDP on ports of its own.
                let process = try sandbox.condition(
                    """
                    serve(*range(1000, 1030))
                    for port in range(1000, 1030):
                        connect(port); connect(port, '127.0.0.1', without_port=True)
                    for port in range(2000, 2050): udp(port, 9)
                    for port in range(1000, 1010): connect(port, '127.0.0.1')
                    """)
                try ending(process) {
                    let ordinary = try diagnose(sandbox, sample: "0.2")
                    #expect(ordinary.kinds == [])
                    #expect(ordinary.status == 0)
                    let text = try sandbox.tupleguard("doctor", "--namespace", "self")
                    #expect(text.output.contains("Nothing is wrong in 1 network namespace."))
                    #expect(!text.output.contains("\u{1B}"))
                    #expect(!text.output.contains("do not "))
                }
            }
        }

        @Test func portsToADestinationThatRunOut() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    "serve(443)\nfor _ in range(95): connect(443)")
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    #expect(diagnosis.status == 2)
                    // Urgent things first.
                    #expect(diagnosis.kinds == ["destination-filling", "small-range"])
                    let finding = diagnosis.findings[0]
                    #expect(finding["severity"] as? String == "critical")
                    #expect(finding["remote"] as? String == "127.0.0.1:443")
                    #expect(number(finding, "used") == 95)
                    #expect(number(finding, "possible") == 100)
                    #expect(pids(finding) == [process.pid])
                    let text = try sandbox.tupleguard("doctor", "--namespace", "self").output
                    #expect(text.contains("[###################.] 95%"))
                    #expect(text.contains("python3 (pid \(process.pid), uid 0): 95 sockets"))
                    #expect(text.contains("Unix socket"))
                    #expect(text.contains("1 critical, 1 warning in 1 network namespace."))
                    #expect(text.contains("tcp_tw_recycle: it broke clients behind NAT"))
                    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
                }
            }
        }

        /// With fewer sockets than the 1,024 descriptors that a process often may have.
        @Test func tellsWhenPortsWillBeUsedUp() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
                let process = try sandbox.condition(
                    """
                    serve(443)
                    for _ in range(400): connect(443)
                    print('up', flush=True)
                    for _ in range(550):
                        connect(443); time.sleep(0.1)
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox, sample: "2")
                    let finding = try #require(diagnosis.findings("destination-filling").first)
                    #expect(finding["severity"] as? String == "critical")
                    let (rate, left) = (
                        number(finding, "per_second") ?? 0,
                        1000 - (number(finding, "used") ?? 0)
                    )
                    #expect(rate > 0)
                    let seconds = try #require(finding["seconds_until_full"] as? Double)
                    #expect(abs(seconds * Double(rate) / Double(left) - 1) < 0.5)
                    #expect(diagnosis.list("destinations").first?["per_second"] as? Double ?? 0 > 0)
                    let text = try sandbox.tupleguard("doctor", "--namespace", "self").output
                    #expect(text.contains("%, full in "))
                }
            }
        }

        @Test func portsHeldByTimeWait() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                try sandbox.sysctl("net.ipv4.tcp_tw_reuse", "0")
                let process = try sandbox.condition(
                    """
                    serve(443)
                    for _ in range(75):
                        connect(443).close(); keep[0].accept()[0].close()
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let finding = try #require(diagnosis.findings("time-wait").first)
                    #expect(diagnosis.findings("destination-filling").count == 1)
                    for name in ["sources", "destinations"] {
                        #expect(diagnosis.list(name).first?["time_wait"] as? Int == 75)
                    }
                    #expect(number(finding, "time_wait") == 75)
                    #expect(number(finding, "tcp_tw_reuse") == 0)
                    #expect(finding["severity"] as? String == "warning")
                    #expect(codes(finding) == ["sysctl -w net.ipv4.tcp_tw_reuse=1"])
                    let text = try sandbox.tupleguard("doctor", "--namespace", "self").output
                    #expect(text.contains("75 of 100 ports, 75 in TIME_WAIT"))
                    // Loopback ports may be taken again: nothing is wrong any more.
                    try sandbox.sysctl("net.ipv4.tcp_tw_reuse", "2")
                    let reused = try diagnose(sandbox)
                    #expect(reused.findings("time-wait").isEmpty)
                    #expect(reused.findings("destination-filling").isEmpty)
                    // But not without timestamps.
                    try sandbox.sysctl("net.ipv4.tcp_timestamps", "0")
                    let without = try #require(try diagnose(sandbox).findings("time-wait").first)
                    #expect(codes(without).contains("sysctl -w net.ipv4.tcp_timestamps=1"))
                }
            }
        }

        /// What comes in on a port of the range takes one port, not one for each connection.
        @Test func portsOfServersAreNotCounted() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    serve(40050)
                    for _ in range(60): connect(40050); keep.append(keep[0].accept())
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    #expect(diagnosis.list("sources").map { $0["ports"] as? Int } == [60])
                    #expect(diagnosis.list("sources").map { $0["sockets"] as? Int } == [60])
                    let destinations = diagnosis.list("destinations")
                    #expect(destinations.map { $0["remote"] as? String } == ["127.0.0.1:40050"])
                }
            }
        }

        /// Nobody is given a reserved port, so who names one takes none of the others.
        @Test func reservedPortsAreNotCounted() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40049")
                let process = try sandbox.condition("for port in range(40000, 40100): udp(port, 9)")
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let finding = try #require(diagnosis.findings("source-filling").first)
                    #expect(number(finding, "used") == 50)
                    #expect(number(finding, "possible") == 50)
                    #expect(finding["seconds_until_full"] as? Double == 0)
                    let text = try sandbox.tupleguard("doctor", "--namespace", "self").output
                    #expect(text.contains("UDP ports at 127.0.0.1 have run out"))
                }
            }
        }

        /// A socket that is bound to no address has its port at every one.
        @Test func portsAtNoAddressCountAtEach() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    for port in range(40000, 40040): udp(port, 9)
                    for port in range(40040, 40080):
                        keep.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                        keep[-1].bind(('0.0.0.0', port))
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let finding = try #require(diagnosis.findings("source-filling").first)
                    #expect(finding["local"] as? String == "127.0.0.1")
                    #expect(number(finding, "used") == 80)
                    #expect(diagnosis.list("sources").map { $0["ports"] as? Int } == [80, 40])
                }
            }
        }

        @Test func addressesThatThereIsNoRoomForAreNamed() throws {
            try Sandbox.run { sandbox in
                let process = try sandbox.condition(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                    for number in range(1005):
                        keep.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                        keep[-1].bind((f'127.1.{number // 250}.{1 + number % 250}', 40000))
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    #expect(diagnosis.list("sources").count == 1000)
                    #expect(
                        diagnosis.report["unseen"] as? [String] == [
                            "5 sockets of more than 1,000 source addresses in this network namespace"
                        ])
                }
            }
        }

        @Test func socketsThatBindBeforeTheyConnect() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let server = try sandbox.condition("serve(*range(1000, 1080))")
                try ending(server) {
                    for (source, isFound) in [
                        ("source='127.0.0.1'", true), ("", false),
                        ("source='127.0.0.1', without_port=True", false),
                    ] {
                        let process = try sandbox.condition(
                            "for port in range(1000, 1040): connect(port, \(source))")
                        try ending(process) {
                            let findings = try diagnose(sandbox).findings("locked-ports")
                            #expect(findings.count == (isFound ? 1 : 0), "\(source)")
                            if let finding = findings.first {
                                #expect(number(finding, "locked") == 40)
                                #expect(pids(finding) == [process.pid])
                            }
                        }
                    }
                }
            }
        }

        /// Also where connect() has to take the ports that bind() would.
        @Test func socketsThatBindWithoutAPortLockNone() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    serve(443, *range(40000, 40090, 2))
                    for _ in range(40): connect(443, '127.0.0.1', without_port=True)
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    #expect(diagnosis.findings("locked-ports").isEmpty)
                    // The servers' ports are nobody else's: 40 of 55 are in use.
                    let full = try #require(diagnosis.findings("destination-filling").first)
                    #expect(number(full, "used") == 40)
                    #expect(number(full, "possible") == 55)
                }
            }
        }

        /// A port that serves two destinations is locked for neither.
        @Test func sharedPortsAreNotLocked() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    serve(1000, 1001)
                    for port in range(40001, 40081, 2):
                        for remote in (1000, 1001):
                            client = socket.socket()
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                            client.bind(('127.0.0.1', port)); client.connect(('127.0.0.1', remote))
                            keep.append(client)
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    #expect(diagnosis.kinds == ["small-range"])
                    let source = try #require(diagnosis.list("sources").first)
                    #expect(source["ports"] as? Int == 40)
                    #expect(source["shared_ports"] as? Int == 40)
                    #expect(source["sockets"] as? Int == 80)
                }
            }
        }

        /// Beyond half of the range bind() chooses the other ports too.
        @Test func socketsThatBindAreCountedBeyondHalfOfTheRange() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    serve(*range(1000, 1080))
                    for port in range(1000, 1075): connect(port, '127.0.0.1')
                    """)
                try ending(process) {
                    let finding = try #require(try diagnose(sandbox).findings("locked-ports").first)
                    #expect(number(finding, "locked") == 75)
                    #expect(finding["severity"] as? String == "warning")
                }
            }
        }

        /// Another program fails for the ports that the first one locks.
        @Test func lockedPortsAreMissedAtOtherDestinations() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let locker = try sandbox.condition(
                    "serve(*range(1000, 1040))\nfor port in range(1000, 1040): connect(port, '127.0.0.1')"
                )
                try ending(locker) {
                    let process = try sandbox.condition(
                        """
                        serve(443); made = 0
                        try:
                            while True: connect(443); made += 1
                        except OSError as error: print(made, error.errno, flush=True)
                        """)
                    try ending(process) {
                        #expect(process.outputSoFar.contains("60 \(EADDRNOTAVAIL)"))
                        let diagnosis = try diagnose(sandbox)
                        // What a destination has locked itself is not missed there.
                        let others = diagnosis.list("destinations").dropFirst()
                        #expect(others.allSatisfy { $0["possible"] as? Int == 61 })
                        #expect(others.count == 9)
                        let finding = try #require(
                            diagnosis.findings("destination-filling").first)
                        #expect(number(finding, "used") == 60)
                        #expect(number(finding, "possible") == 60)
                        #expect(number(finding, "locked") == 40)
                        #expect(pids(finding) == [process.pid])
                    }
                }
            }
        }

        @Test func udpSocketsThatAreOvershadowed() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.socket(bound: "127.0.0.1:6000")
                let answered = """
                    import threading
                    udp(5000, 6000)
                    def answer(): print(keep[0].recv(9), flush=True)
                    threading.Thread(target=answer, daemon=True).start()
                    """
                let first = try sandbox.condition(answered)
                try ending(first) {
                    #expect(try diagnose(sandbox).kinds == [])
                    let second = try sandbox.condition(answered)
                    try ending(second) {
                        let diagnosis = try diagnose(sandbox)
                        #expect(diagnosis.kinds == ["overshadowed", "unguarded"])
                        #expect(diagnosis.status == 2)
                        let finding = diagnosis.findings[0]
                        try server.send("hello", to: Endpoint("127.0.0.1:5000")!)
                        func receivers() -> [RunningProgram] {
                            [first, second].filter { $0.outputSoFar.contains("hello") }
                        }
                        #expect(eventually { receivers().count == 1 })
                        let receiver = receivers().first?.pid
                        #expect(pids(finding).first == receiver)
                        #expect(Set(pids(finding)) == [first.pid, second.pid])
                        #expect(finding["local"] as? String == "127.0.0.1:5000")
                        let roles = (finding["processes"] as? [[String: Any]])?.compactMap {
                            $0["role"] as? String
                        }
                        #expect(roles == ["receives", "overshadowed, receives nothing"])
                        #expect(number(diagnosis.findings[1], "overshadowed_tuples") == 1)
                    }
                }
            }
        }

        @Test func udpProgramsNearTheLimit() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    for _ in range(75):
                        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        client.connect(('127.0.0.1', 53)); keep.append(client)
                    """, in: sandbox.cgroup)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let source = try #require(diagnosis.findings("source-filling").first)
                    #expect(source["severity"] as? String == "warning")
                    #expect(number(source, "used") == 75)
                    #expect(number(source, "possible") == 100)
                    let program = try #require(
                        diagnosis.findings("udp-program-near-limit").first)
                    #expect(pids(program) == [process.pid])
                    #expect(number(program, "sockets") == 75)
                    let path = sandbox.cgroup.folder.dropFirst(sandbox.hierarchy.mountPoint.count)
                    #expect(codes(program) == ["tupleguard attach --discover all \(path)"])
                }
                #expect(try diagnose(sandbox).kinds == ["small-range"])
            }
        }

        @Test func rangesThatAreSmallOrInPieces() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
                try sandbox.sysctl(
                    "net.ipv4.ip_local_reserved_ports",
                    (0..<400).map { "\(40_000 + 2 * $0)" }.joined(separator: ","))
                let diagnosis = try diagnose(sandbox)
                #expect(diagnosis.kinds == ["small-range", "fragmented-range"])
                #expect(diagnosis.status == 1)
                #expect(diagnosis.report["status"] as? String == "warnings")
                #expect(number(diagnosis.findings[0], "possible") == 600)
                #expect(number(diagnosis.findings[1], "reserved") == 400)
                #expect(number(diagnosis.findings[1], "pieces") == 400)
                // Worth knowing, and nothing wrong.
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "20000 60999")
                let large = try diagnose(sandbox)
                #expect(large.kinds == ["fragmented-range"])
                #expect(large.status == 0)
                #expect(large.report["status"] as? String == "fine")
                let text = try sandbox.tupleguard("doctor", "--namespace", "self").output
                #expect(text.contains("1 info in 1 network namespace."))
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "")
                #expect(try diagnose(sandbox).kinds == [])
            }
        }

        @Test(arguments: [(80, 45, nil), (80, 70, "warning"), (80, 77, "critical")])
        func descriptorLimits(_ limit: Int, _ open: Int, _ severity: String?) throws {
            try Sandbox.run { sandbox in
                let process = try sandbox.condition(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (\(limit), 500))
                    while len(os.listdir('/proc/self/fd')) - 1 < \(open):
                        keep.append(open('/dev/null'))
                    """)
                try ending(process) {
                    let finding = try diagnose(sandbox).findings("descriptors").first
                    #expect(finding?["severity"] as? String == severity)
                    guard let finding else { return }
                    #expect(pids(finding) == [process.pid])
                    #expect(number(finding, "open") == open)
                    #expect(number(finding, "limit") == limit)
                    #expect(number(finding, "hard_limit") == 500)
                }
            }
        }

        /// `--namespace self` leaves out the processes of others.
        @Test func descriptorLimitsOfAnotherNamespace() throws {
            try Sandbox.run { sandbox in
                try Sandbox.run { other in
                    let process = try other.condition(
                        """
                        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
                        while len(os.listdir('/proc/self/fd')) - 1 < 70:
                            keep.append(open('/dev/null'))
                        """)
                    try ending(process) {
                        let (theirs, ours) = (try diagnose(other), try diagnose(sandbox))
                        #expect(theirs.kinds == ["descriptors"])
                        #expect(ours.kinds == [])
                    }
                }
            }
        }

        @Test func aGuardThatIsMissingTooLowOrShortOfRoom() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.lookUp = .off
                try sandbox.attach(policy)
                #expect(try diagnose(sandbox).kinds == [])
                // Inside and outside.
                let inside = try sandbox.socket(bound: "127.0.0.1:5000")
                let outside = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(inside.connect("127.0.0.1:6000") == nil)
                #expect(outside.connect("127.0.0.1:6000") == nil)
                let low = try diagnose(sandbox)
                #expect(low.kinds == ["overshadowed", "guard-too-low"])
                #expect(number(low.findings[1], "overshadowed_tuples") == 1)
                sandbox.close(outside)
                #expect(try diagnose(sandbox).kinds == [])
                // Refused because of a socket outside.
                policy.lookUp = .on
                try sandbox.state.attach(sandbox.cgroup, policy: policy, replacing: true)
                let other = try sandbox.socket(bound: "127.0.0.1:5001", in: sandbox.outside)
                let refused = try sandbox.socket(bound: "127.0.0.1:5001")
                #expect(other.connect("127.0.0.1:6000") == nil)
                #expect(refused.connect("127.0.0.1:6000") == "EPERM")
                let beside = try diagnose(sandbox)
                #expect(beside.kinds == ["guard-too-low"])
                #expect(number(beside.findings[0], "refused_outside") == 1)
                #expect(beside.status == 1)
            }
        }

        @Test(arguments: [Policy.WhenFull.allow, .refuse])
        func connectsThatTheTableHadNoRoomFor(_ whenFull: Policy.WhenFull) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.whenFull = whenFull
                try sandbox.attach(policy, tableSize: 1024)
                let holder = try sandbox.condition(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                    for port in range(20000, 23500):
                        try: udp(port, 9)
                        except PermissionError: pass
                    """, in: sandbox.cgroup)
                try ending(holder) {
                    let counters = try sandbox.counters()
                    let without = counters[
                        whenFull == .allow ? .allowedTableFull : .refusedTableFull]
                    #expect(without > 0)
                    let finding = try #require(
                        try diagnose(sandbox).findings("guard-table-full").first)
                    #expect(number(finding, "without_room") == Int(without))
                    #expect(finding["severity"] as? String == "critical")
                }
            }
        }

        @Test func aTableThatIsNearlyFullAndEventsThatAreLost() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 1024)
                let holder = try sandbox.condition(
                    "for port in range(20000, 20850): udp(port, 9)", in: sandbox.cgroup)
                try ending(holder) {
                    let full = try diagnose(sandbox)
                    let finding = try #require(full.findings("guard-table-full").first)
                    #expect((850...1024).contains(number(finding, "claims") ?? 0))
                    #expect(number(finding, "table_size") == 1024)
                    #expect(finding["severity"] as? String == "warning")
                    #expect(full.findings("guard-events-dropped").isEmpty)
                    let again = try sandbox.socket(bound: "127.0.0.1:20000")
                    for _ in 0..<50_000 { _ = again.connect("127.0.0.1:9") }
                    let dropped = try sandbox.counters()[.eventsDropped]
                    #expect(dropped > 0)
                    let flooded = try #require(
                        try diagnose(sandbox).findings("guard-events-dropped").first)
                    #expect(number(flooded, "events_dropped") == Int(dropped))
                }
            }
        }

        @Test func withoutRootItSaysWhatItCouldNotSee() throws {
            try Sandbox.run { sandbox in
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == nil)
                let diagnosis = try diagnose(sandbox, asNobody: true)
                #expect(diagnosis.findings("overshadowed").count == 1)
                let unseen = diagnosis.report["unseen"] as? [String] ?? []
                #expect(unseen.contains { $0.hasPrefix("the guard: ") })
                #expect(unseen.contains { $0.hasPrefix("which sockets ") })
                let text = try sandbox.tupleguard(
                    "doctor", "--namespace", "self", "--sample", "0", asNobody: true)
                #expect(text.output.contains("not seen  the guard: "))
            }
        }

        /// Out of descriptors in the middle of its watch.
        @Test func saysThatItCouldNotLook() throws {
            try Sandbox.run { sandbox in
                let doctor = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    ["doctor", "--namespace", "self", "--sample", "0", "--watch", "0.1", "--json"])
                try ending(doctor) {
                    #expect(eventually { doctor.outputSoFar.contains(#""status":"fine""#) })
                    let limited = try sandbox.command(
                        "/usr/bin/prlimit", ["--pid", "\(doctor.pid)", "--nofile=0:0"])
                    #expect(limited.status == 0)
                    let outcome = doctor.wait()
                    #expect(outcome.status == 3)
                    #expect(outcome.errors.contains("Error: cannot look at the sockets: "))
                }
            }
        }

        /// The names that programs rely on.
        @Test func fieldsHaveStableNames() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition("serve(443)\nfor _ in range(95): connect(443)")
                try ending(process) {
                    let diagnosis = try diagnose(sandbox, sample: "0.2")
                    #expect(
                        diagnosis.report.keys.sorted() == [
                            "findings", "namespaces", "status", "unseen",
                        ])
                    let namespaces = diagnosis.report["namespaces"] as? [[String: Any]]
                    #expect(
                        namespaces?.first?.keys.sorted() == [
                            "destinations", "name", "possible_ports", "sources",
                        ])
                    #expect(
                        diagnosis.list("sources").first?.keys.sorted() == [
                            "address", "ports", "protocol", "shared_ports", "sockets", "time_wait",
                        ])
                    let destination = diagnosis.list("destinations").first ?? [:]
                    #expect(
                        Set(destination.keys).subtracting(["seconds_until_full"]) == [
                            "local", "per_second", "possible", "protocol", "remote", "time_wait",
                            "used",
                        ])
                    let finding = diagnosis.findings.first ?? [:]
                    #expect(
                        Set(finding.keys).subtracting(["seconds_until_full"]) == [
                            "kind", "local", "network_namespace_name", "notes", "numbers",
                            "processes",
                            "protocol", "remedies", "remote", "severity", "usage", "what",
                        ])
                    let processes = finding["processes"] as? [[String: Any]]
                    #expect(
                        processes?.first?.keys.sorted() == ["command", "pid", "role", "uid"])
                }
            }
        }

        @Test func looksAgainAndAgain() throws {
            try Sandbox.run { sandbox in
                let doctor = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    [
                        "doctor", "--namespace", "self", "--sample", "0", "--watch", "0.1",
                        "--json",
                    ])
                try ending(doctor) {
                    #expect(eventually { doctor.outputSoFar.contains(#""status":"fine""#) })
                    let a = try sandbox.socket(bound: "127.0.0.1:5000")
                    let b = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(a.connect("127.0.0.1:6000") == nil)
                    #expect(b.connect("127.0.0.1:6000") == nil)
                    #expect(eventually { doctor.outputSoFar.contains(#""status":"critical""#) })
                }
            }
        }

        /// Another namespace is looked at too, and its remedy is a command for there.
        @Test func namespacesAreEntered() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "43210 43219")
                let process = try sandbox.condition("pass")
                try ending(process) {
                    try Sandbox.run { other in
                        let place = "network namespace of pid \(process.pid)"
                        let outcome = try other.tupleguard("doctor", "--sample", "0", "--json")
                        let report =
                            try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
                            as? [String: Any]
                        let findings = report?["findings"] as? [[String: Any]] ?? []
                        let found = findings.filter {
                            $0["network_namespace_name"] as? String == place
                        }
                        #expect(found.compactMap { $0["kind"] as? String } == ["small-range"])
                        #expect(found.first.flatMap { number($0, "lowest") } == 43210)
                        let command = "nsenter -t \(process.pid) -n sysctl -w net.ipv4."
                        #expect(found.flatMap(codes).contains { $0.hasPrefix(command) })
                        let text = try other.tupleguard("doctor", "--sample", "0").output
                        #expect(text.contains("in \(place)\n"))
                    }
                }
            }
        }

        /// A mounted namespace has its name; who may not enter it is told so.
        @Test func mountedNamespacesAreNamed() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "43210 43219")
                try Sandbox.run { other in
                    // In a mount namespace of its own, so that nobody else sees the name.
                    func lookAround(_ command: String) throws -> Sandbox.Outcome {
                        try other.command(
                            "/usr/bin/unshare",
                            [
                                "--mount", "/bin/sh", "-ec",
                                """
                                mount -t tmpfs none /run && mkdir /run/netns
                                touch /run/netns/blue && mount --bind "$1" /run/netns/blue
                                exec \(command)
                                """, Sandbox.program("tupleguard"),
                                "/proc/\(getpid())/fd/\(sandbox.networkNamespace.raw)",
                            ])
                    }
                    let root = try lookAround("\"$0\" doctor --sample 0")
                    #expect(root.output.contains("in network namespace blue\n"))
                    #expect(root.output.contains("ip netns exec blue sysctl -w net.ipv4."))
                    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" "
                    let blind = try lookAround(nobody + "doctor --sample 0")
                    #expect(blind.output.contains("not seen  network namespace blue: "))
                    // What is not mounted has not even a name.
                    let hidden = "network namespaces of processes that we may not look at"
                    let unwrapped = blind.output.split(whereSeparator: \.isWhitespace)
                    #expect(unwrapped.joined(separator: " ").contains("; \(hidden)"))
                    let alone = try other.tupleguard(
                        "doctor", "--namespace", "self", "--sample", "0", asNobody: true)
                    #expect(!alone.output.contains("not look at"))
                    let shadows = try lookAround(nobody + "shadows")
                    #expect(shadows.output.contains("not seen: network namespace blue: "))
                    #expect(shadows.output.contains(hidden))
                    let json = try lookAround(nobody + "shadows --json").output
                    #expect(json.contains("network namespace blue: "))
                    #expect(json.contains(hidden))
                }
            }
        }
    }
}
