// SPDX-License-Identifier: Apache-2.0
// Ports that sockets lock for one destination.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorLocks: DoctorSuite {
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
    }
}
