// SPDX-License-Identifier: Apache-2.0
// Ranges of local ports, as sysctl files have them.

import Testing
import TupleguardLinux
import TupleguardSockets

@testable import TupleguardKernel

struct LocalPortsTests {
    @Test(
        "The two ends of a range are read, whatever is between them",
        arguments: ["32768\t60999\n", "32768 60999", " 32768  60999 "])
    func range(text: String) {
        #expect(parsePortRange(text) == 32768...60999)
    }

    @Test("A range may be one port, or all")
    func ends() {
        #expect(parsePortRange("5000\t5000\n") == 5000...5000)
        #expect(parsePortRange("1\t65535\n") == 1...65535)
    }

    @Test(
        "What is no range is none",
        arguments: ["", "32768", "60999 32768", "1 65536", "-1 5", "a b", "1 2 3"])
    func noRange(text: String) {
        #expect(parsePortRange(text) == nil)
    }

    @Test("Each network namespace is listed once, this one among them")
    func inForce() {
        let ports = LocalPorts.inForce()
        #expect(Set(ports.map(\.namespace)).count == ports.count)
        // Entering a namespace takes privilege; without it there are none.
        #expect(ports.isEmpty || ports.contains { $0.namespace == "/proc/self/ns/net" })
    }
}
