// SPDX-License-Identifier: Apache-2.0
// What a network namespace lets its sockets choose from, as sysctl files have it.

import Testing
import TupleguardTestSupport

@testable import TupleguardLinux

struct PortSettingsTests {
    @Test(
        "The two ends of a range are read, whatever is between them",
        arguments: ["32768\t60999\n", "32768 60999", " 32768  60999 "])
    func range(text: String) {
        #expect(PortSettings.parseRange(text) == 32768...60999)
    }

    @Test("A range may be one port, or all")
    func ends() {
        #expect(PortSettings.parseRange("5000\t5000\n") == 5000...5000)
        #expect(PortSettings.parseRange("1\t65535\n") == 1...65535)
    }

    @Test(
        "What is no range is none",
        arguments: ["", "32768", "60999 32768", "1 65536", "-1 5", "a b", "1 2 3"])
    func noRange(text: String) {
        #expect(PortSettings.parseRange(text) == nil)
    }

    @Test(arguments: [
        ("", 0, 1), ("\n", 0, 1), ("8080", 0, 1), ("150", 1, 2), ("100", 1, 1), ("199", 1, 1),
        ("150-159", 10, 2), ("90-110,150,190-300", 22, 2), ("100-199", 100, 0),
        ("110,120,130", 3, 4), ("120,110", 2, 3), ("nonsense,150,7-", 1, 2),
        ("100-180,120-130,170-190", 91, 1), ("150,150", 1, 2),
    ])
    func reservedPortsCountWhereTheyAreInTheRange(_ list: String, _ count: Int, _ pieces: Int) {
        var settings = PortSettings()
        settings.range = 100...199
        settings.reserve(list)
        #expect(settings.reservedCount == count)
        #expect(settings.possible == 100 - count)
        #expect(settings.pieces == pieces)
    }

    @Test("What is read is what the files say, and the default where there is none")
    func read() throws {
        let folder = "sys/net/ipv4"
        try withTemporaryProc(files: [
            "\(folder)/ip_local_port_range": "100\t199\n",
            "\(folder)/ip_local_reserved_ports": "50,150-159\n",
            "\(folder)/tcp_tw_reuse": "1\n", "\(folder)/tcp_timestamps": "0\n",
        ]) { proc in
            let settings = PortSettings.current(proc)
            #expect(settings.range == 100...199)
            #expect(settings.reservedList == "50,150-159")
            #expect(settings.reserved == [150...159])
            #expect(settings.timeWaitReuse == 1)
            #expect(!settings.hasTimestamps)
        }
        try withTemporaryProc(files: [:]) { proc in
            let settings = PortSettings.current(proc)
            #expect(settings == PortSettings())
            #expect(settings.possible == 28_232)
        }
    }

    @Test("Each network namespace is listed once, this one first")
    func everywhere() {
        let paths = NetworkNamespace.portSettings().map(\.namespace.path)
        #expect(Set(paths).count == paths.count)
        #expect(paths.first == NetworkNamespace.ownPath)
    }
}
