// SPDX-License-Identifier: Apache-2.0
// Source NAT that gives out ports, and runs out of them.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

/// Why there can be no source NAT here; nil where there can.
private let cannotTranslate: String? = {
    if cannotRunBPF != nil { return cannotRunBPF }
    for tool: String in ["/usr/sbin/nft", "/usr/sbin/iptables"] where access(tool, X_OK) != 0 {
        return "\(tool) is missing: run scripts/setup"
    }
    var why: String?
    do {
        try Sandbox.run { sandbox in
            let outcome = try sandbox.command("/bin/sh", ["-c", RuleSet.nftables.commands])
            if outcome.status != 0 { why = "this kernel has no source NAT: \(outcome.errors)" }
        }
    } catch {
        why = "\(error)"
    }
    return why
}()

/// How UDP from 10.0.0.1, or fd00::1, gets one of a hundred ports.
enum RuleSet: String, CaseIterable {
    case nftables = "udp dport 53 snat to 192.0.2.1:20000-20099"
    case masquerade = "udp dport 53 masquerade to :20000-20099"
    case iptables = "-p udp -j MASQUERADE --to-ports 20000-20099"

    var commands: String {
        guard self != .iptables else {
            return "iptables -w 60 -t nat -A POSTROUTING -s 10.0.0.1 \(rawValue)"
        }
        return """
            nft add table ip nat &&
            nft 'add chain ip nat out { type nat hook postrouting priority 100; }' &&
            nft add rule ip nat out ip saddr 10.0.0.1 \(rawValue)
            """
    }
}

extension Sandbox {
    /// A way out by 192.0.2.1, on which everybody who has another address gets that one.
    fileprivate func translate(_ rules: RuleSet) throws {
        try wayOut()
        let outcome = try command("/bin/sh", ["-c", rules.commands])
        try #require(outcome.status == 0, "\(outcome.errors)")
    }

    private func wayOut() throws {
        try ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        try ip("address", "add", "192.0.2.1/24", "dev", "d0")
        try ip("address", "add", "10.0.0.1/32", "dev", "lo")
        try ip("link", "set", "d0", "up")
        try ip("link", "set", "d1", "up")
        try ip("neighbour", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "d0")
        try ip("route", "add", "default", "via", "192.0.2.2", "dev", "d0")
    }

    /// So many programs behind NAT that send to 198.51.100.7:53, each from a port of its own.
    fileprivate func behind(_ ports: Range<Int>, more: String = "") throws -> RunningProgram {
        // Longer than a test may take.
        try condition(
            """
            failed = 0
            def send(source, port):
                global failed
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                client.bind((source, port)); keep.append(client)
                try: client.connect(('198.51.100.7', 53)); client.send(b'x')
                except PermissionError: failed += 1
            open('/proc/sys/net/netfilter/nf_conntrack_udp_timeout', 'w').write('3600')
            for port in range(\(ports.lowerBound), \(ports.upperBound)): send('10.0.0.1', port)
            \(more)
            print('failed', failed, flush=True)
            """)
    }
}

extension IntegrationTests {
    @Suite(.enabled(if: cannotTranslate == nil, "\(cannotTranslate ?? "")"))
    struct DoctorTranslations: DoctorSuite {
        private func diagnose(_ sandbox: Sandbox, asNobody: Bool = false) throws -> Diagnosis {
            try diagnose(sandbox, asNobody: asNobody, more: ["--snat-ports", "20000-20099"])
        }

        @Test(arguments: RuleSet.allCases)
        func portsThatSourceNATGivesOut(_ rules: RuleSet) throws {
            try Sandbox.run { sandbox in
                try sandbox.translate(rules)
                let some = try sandbox.behind(30_000..<30_075)
                try ending(some) {
                    let diagnosis = try diagnose(sandbox)
                    let finding = try #require(diagnosis.findings("snat-filling").first)
                    #expect(finding["severity"] as? String == "warning")
                    #expect(number(finding, "used") == 75)
                    #expect(number(finding, "possible") == 100)
                    #expect(finding["local"] as? String == "192.0.2.1")
                    #expect(finding["remote"] as? String == "198.51.100.7:53")
                    #expect(finding["protocol"] as? String == "udp")
                    let first = diagnosis.report["first_to_run_out"] as? [String: Any]
                    #expect(first?["kind"] as? String == "snat-filling")
                    #expect(first?["used"] as? Int == 75)
                    // Of all the ports that there are it is nothing.
                    let other = try self.diagnose(sandbox, more: [])
                    #expect(other.findings("snat-filling").isEmpty)
                    #expect(other.list("translations").first?["possible"] as? Int == 64_512)
                }
                let rest = try sandbox.behind(30_075..<30_130)
                try ending(rest) {
                    #expect(rest.outputSoFar.contains("failed 30"))
                    let full = try #require(try diagnose(sandbox).findings("snat-filling").first)
                    #expect(full["severity"] as? String == "critical")
                    #expect(number(full, "used") == 100)
                    #expect((full["what"] as? String)?.contains("have run out") == true)
                }
            }
        }

        /// The page draws them as it does destinations of sockets.
        @Test func thePageDrawsThem() throws {
            try Sandbox.run { sandbox in
                try sandbox.translate(.nftables)
                let process = try sandbox.behind(
                    30_000..<30_060,
                    more: "for port in range(40000, 40015): send('192.0.2.1', port)")
                try ending(process) {
                    func page(_ options: String...) throws -> String {
                        try sandbox.command(
                            Sandbox.program("tupleguard"),
                            ["doctor", "--namespace", "self", "--sample", "0", "--html", "-"]
                                + options
                        ).output
                    }
                    let some = try page("--snat-ports", "20000-20099")
                    #expect(some.contains("<figure id=\"translations\">"))
                    #expect(some.contains(">75 of 100"))
                    #expect(some.contains("udp 192.0.2.1 to 198.51.100.7:53"))
                    #expect(try page().contains(">75 of 64,512"))
                }
            }
        }

        /// What the host connects itself from the same address takes the same ports.
        @Test func ownSocketsCountToo() throws {
            try Sandbox.run { sandbox in
                try sandbox.translate(.nftables)
                let process = try sandbox.behind(
                    30_000..<30_060,
                    more: "for port in range(40000, 40015): send('192.0.2.1', port)")
                try ending(process) {
                    let finding = try #require(
                        try diagnose(sandbox).findings("snat-filling").first)
                    #expect(number(finding, "used") == 75)
                    #expect(number(finding, "mappings") == 60)
                    #expect(number(finding, "sockets") == 15)
                }
            }
        }

        /// Connections that leave as they came are tracked, and take nobody's port.
        @Test func whatIsNotTranslatedIsNotCounted() throws {
            try Sandbox.run { sandbox in
                try sandbox.translate(.nftables)
                let process = try sandbox.behind(
                    30_000..<30_001,
                    more: "for port in range(40000, 40015): send('192.0.2.1', port)")
                try ending(process) {
                    let diagnosis = try diagnose(sandbox)
                    let translations = diagnosis.list("translations")
                    #expect(translations.map { $0["mappings"] as? Int } == [1])
                    let namespaces = diagnosis.report["namespaces"] as? [[String: Any]]
                    let table = namespaces?.first?["conntrack"] as? [String: Any]
                    #expect(table?["tracked"] as? Int == 16)
                }
            }
        }

        @Test func withoutPrivilegeItSaysThatItCouldNotSee() throws {
            try Sandbox.run { sandbox in
                try sandbox.translate(.nftables)
                let process = try sandbox.behind(30_000..<30_100)
                try ending(process) {
                    let diagnosis = try diagnose(sandbox, asNobody: true)
                    #expect(diagnosis.findings("snat-filling").isEmpty)
                    let unseen = diagnosis.report["unseen"] as? [String] ?? []
                    #expect(
                        unseen.contains {
                            $0.hasPrefix("which of 100 tracked connections")
                                && $0.contains("CAP_NET_ADMIN")
                        }, "\(unseen)")
                }
            }
        }

        @Test func whereNothingIsTrackedNothingIsSaid() throws {
            try Sandbox.run { sandbox in
                for asNobody in [false, true] {
                    let diagnosis = try diagnose(sandbox, asNobody: asNobody)
                    #expect(diagnosis.list("translations").isEmpty)
                    let unseen = diagnosis.report["unseen"] as? [String] ?? []
                    #expect(!unseen.contains { $0.contains("tracked") })
                }
            }
        }
    }
}
