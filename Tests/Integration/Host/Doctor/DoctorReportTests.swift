// SPDX-License-Identifier: Apache-2.0
// What the doctor says of what it saw and could not see, and where it looks.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorReports: DoctorSuite {
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

        /// A process that calls itself markup is a name on the page, as everywhere.
        @Test func aPageHasTheSameNumbers() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    import ctypes
                    ctypes.CDLL(None).prctl(15, b"<b onload=x>&", 0, 0, 0)
                    serve(443)
                    for _ in range(95): connect(443)
                    """)
                try ending(process) {
                    try withTemporaryFolder { folder in
                        let path = folder + "/doctor.html"
                        let outcome = try sandbox.tupleguard(
                            "doctor", "--namespace", "self", "--sample", "0", "--html", path)
                        #expect(outcome.status == 2)
                        #expect(outcome.output.contains("CRITICAL"))
                        let page = try #require(contents(of: path))
                        for name in ["destinations", "holders", "sockets"] {
                            #expect(page.contains("<figure id=\"\(name)\">"))
                        }
                        #expect(page.contains(">95 of 100"))
                        var name = utsname()
                        uname(&name)
                        let host = withUnsafeBytes(of: &name.nodename) {
                            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                        }
                        #expect(page.contains("<p>On \(host) at 20"))
                        #expect(page.contains("<p>What runs out first: TCP ports from "))
                        #expect(page.contains("<h3>Do not</h3>"))
                        #expect(page.contains(">What to do:</p><ul class=\"remedies\">"))
                        // No rate was measured: its cell is empty, and no zero.
                        #expect(page.contains("<td class=\"number\"></td>"))
                        #expect(page.contains("&lt;b onload=x&gt;&amp; (pid \(process.pid))"))
                        #expect(!page.contains("<b "))
                        #expect(names(in: folder) == ["doctor.html"])
                    }
                    let refused = try sandbox.tupleguard("doctor", "--html", "/dev/null")
                    #expect(refused.status == 3)
                    #expect(refused.errors.contains("no ordinary file"))
                    let page = try sandbox.tupleguard(
                        "doctor", "--namespace", "self", "--sample", "0", "--html", "-")
                    #expect(page.status == 2)
                    #expect(page.output.hasPrefix("<!doctype html>"))
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
                            "findings", "first_to_run_out", "namespaces", "status", "unseen",
                        ])
                    let namespaces = diagnosis.report["namespaces"] as? [[String: Any]]
                    #expect(
                        namespaces?.first?.keys.sorted() == [
                            "destinations", "name", "possible_ports", "sources",
                            "translations",
                        ])
                    #expect(
                        diagnosis.list("sources").first?.keys.sorted() == [
                            "address", "ports", "protocol", "shared_ports", "sockets", "time_wait",
                        ])
                    let destination = diagnosis.list("destinations").first ?? [:]
                    #expect(
                        Set(destination.keys).subtracting(["seconds_until_full"]) == [
                            "holders", "local", "per_second", "possible", "protocol", "remote",
                            "time_wait", "used",
                        ])
                    let first = diagnosis.report["first_to_run_out"] as? [String: Any] ?? [:]
                    #expect(
                        Set(first.keys).subtracting(["seconds_until_full"]) == [
                            "kind", "network_namespace_name", "possible", "usage", "used", "what",
                        ])
                    let holders = destination["holders"] as? [[String: Any]]
                    #expect(holders?.first?.keys.sorted() == ["command", "pid", "sockets"])
                    #expect(holders?.first?["sockets"] as? Int == 95)
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
                        let findings = try outcome.json["findings"] as? [JSONObject] ?? []
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
