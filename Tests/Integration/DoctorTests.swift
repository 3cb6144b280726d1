// SPDX-License-Identifier: Apache-2.0
// The doctor, in namespaces that have one thing wrong with them, or nothing.

import Foundation
import Glibc
import Net
import TestSupport
import Testing

@testable import Guard

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
                }
            }
        }

        @Test func portsToADestinationThatRunOut() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 40099")
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
                    #expect(text.contains("tcp_tw_recycle: it broke clients behind NAT"))
                    #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
                }
            }
        }

        @Test func tellsWhenPortsWillBeUsedUp() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 41999")
                let process = try sandbox.condition(
                    """
                    serve(443)
                    for _ in range(800): connect(443)
                    print('up', flush=True)
                    for _ in range(1100):
                        connect(443); time.sleep(0.05)
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox, sample: "2")
                    let finding = try #require(diagnosis.findings("destination-filling").first)
                    #expect(finding["severity"] as? String == "critical")
                    let (rate, left) = (
                        number(finding, "per_second") ?? 0,
                        2000 - (number(finding, "used") ?? 0)
                    )
                    #expect(rate > 0)
                    let seconds = try #require(finding["seconds_until_full"] as? Double)
                    #expect(abs(seconds * Double(rate) / Double(left) - 1) < 0.5)
                }
            }
        }

        @Test func portsHeldByTimeWait() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 40099")
                try sandbox.setting("tcp_tw_reuse", "0")
                let process = try sandbox.condition(
                    """
                    serve(443)
                    for _ in range(60):
                        connect(443).close(); keep[0].accept()[0].close()
                    """)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let finding = try #require(diagnosis.findings("time-wait").first)
                    #expect(number(finding, "time_wait") == 60)
                    #expect(number(finding, "tcp_tw_reuse") == 0)
                    #expect(finding["severity"] as? String == "warning")
                    let remedies = finding["remedies"] as? [[String: Any]] ?? []
                    #expect(
                        remedies.contains {
                            ($0["code"] as? String)?.hasSuffix("sysctl -w net.ipv4.tcp_tw_reuse=1")
                                == true
                        })
                    // Loopback ports may be taken again: nothing is wrong any more.
                    try sandbox.setting("tcp_tw_reuse", "2")
                    let reused = try diagnose(sandbox)
                    #expect(reused.findings("time-wait").isEmpty)
                    #expect(reused.findings("destination-filling").isEmpty)
                }
            }
        }

        @Test func socketsThatBindBeforeTheyConnect() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 40099")
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

        /// Beyond half of the range bind() chooses the other ports too.
        @Test func socketsThatBindAreCountedBeyondHalfOfTheRange() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 40099")
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
                try sandbox.setting("ip_local_port_range", "40000 40099")
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
                        let finding = try #require(
                            try diagnose(sandbox).findings("destination-filling").first)
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
                let first = try sandbox.condition("udp(5000, 6000)")
                try ending(first) {
                    #expect(try diagnose(sandbox).kinds == [])
                    let second = try sandbox.condition("udp(5000, 6000)")
                    try ending(second) {
                        let diagnosis = try diagnose(sandbox)
                        #expect(diagnosis.kinds == ["overshadowed", "unguarded"])
                        #expect(diagnosis.status == 2)
                        let finding = diagnosis.findings[0]
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
                try sandbox.setting("ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    for _ in range(75):
                        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        client.connect(('127.0.0.1', 53)); keep.append(client)
                    """)
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
                }
                #expect(try diagnose(sandbox).kinds == ["small-range"])
            }
        }

        @Test func rangesThatAreSmallOrInPieces() throws {
            try Sandbox.run { sandbox in
                try sandbox.setting("ip_local_port_range", "40000 40999")
                try sandbox.setting(
                    "ip_local_reserved_ports",
                    (0..<400).map { "\(40_000 + 2 * $0)" }.joined(separator: ","))
                let diagnosis = try diagnose(sandbox)
                #expect(diagnosis.kinds == ["small-range", "fragmented-range"])
                #expect(number(diagnosis.findings[0], "possible") == 600)
                #expect(number(diagnosis.findings[1], "reserved") == 400)
                #expect(number(diagnosis.findings[1], "pieces") == 400)
                try sandbox.setting("ip_local_reserved_ports", "")
                try sandbox.setting("ip_local_port_range", "20000 60999")
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
                    let dropped = try sandbox.counters()["events_dropped"]
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
                #expect(unseen.contains { $0.contains("process") })
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
                try sandbox.setting("ip_local_port_range", "43210 43219")
                let process = try sandbox.condition("pass")
                try ending(process) {
                    let outcome = try sandbox.command(
                        "/usr/bin/nsenter",
                        [
                            "--net=/proc/\(getpid())/ns/net", Sandbox.program("tupleguard"),
                            "doctor", "--sample", "0", "--json",
                        ])
                    #expect(
                        outcome.output.contains(
                            #"\u0022lowest\u0022:43210"#.replacing(#"\u0022"#, with: "\"")))
                    #expect(
                        outcome.output.contains("nsenter -t \(process.pid) -n sysctl -w")
                            || outcome.output.contains("network namespace of pid"))
                }
            }
        }
    }
}
