// SPDX-License-Identifier: Apache-2.0
// Ports that run out, at one destination or at one address.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorPorts: DoctorSuite {
        @Test func findsNothingWhereThereIsNothing() throws {
            try Sandbox.run { sandbox in
                let empty = try diagnose(sandbox)
                #expect(empty.kinds == [])
                #expect(empty.status == 0)
                #expect(empty.report["status"] as? String == "fine")
                #expect((empty.report["unseen"] as? [Any])?.isEmpty == true)
                // Ordinary company: servers, connections by all three ways, UDP on ports of its
                // own.
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
                    // Or "1 info", which is the kernel's.
                    #expect(text.output.hasSuffix(" in 1 network namespace.\n"))
                    #expect(!text.output.contains("WARNING") && !text.output.contains("CRITICAL"))
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
                    #expect(text.contains("1 critical, 1 warning"))
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
                        connect(443); time.sleep(0.2)
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
                #expect(text.contains(" info in 1 network namespace."))
                #expect(!text.contains("warning") && !text.contains("critical"))
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "")
                #expect(try diagnose(sandbox).kinds == [])
            }
        }
    }
}
