// SPDX-License-Identifier: Apache-2.0
// Hosts on which doctor, shadows and lab could easily say what is not so.

import Foundation
import Glibc
import Testing
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct UnusualHosts {
        private func findings(_ sandbox: Sandbox, sample: String = "0") throws -> [JSONObject] {
            let outcome = try sandbox.tupleguard(
                "doctor", "--namespace", "self", "--sample", sample, "--json")
            // Without what is the kernel's fault, and no matter which host it runs on.
            return try #require(try outcome.json["findings"] as? [JSONObject]).filter {
                !Diagnosis.kernelKinds.contains($0["kind"] as? String ?? "")
            }
        }

        private func kinds(_ findings: [JSONObject]) -> [String] {
            findings.compactMap { $0["kind"] as? String }
        }

        private func numbers(_ findings: [JSONObject], _ kind: String) -> [String: Int]? {
            findings.first { $0["kind"] as? String == kind }?["numbers"] as? [String: Int]
        }

        private func command(_ sandbox: Sandbox, _ text: String) throws -> Sandbox.Outcome {
            let program = Sandbox.program("tupleguard")
            return try sandbox.command("/bin/sh", ["-c", text, "sh", program])
        }

        // MARK: - Doctor

        /// connect() passes over ports that are bound, whoever has them and wherever.
        @Test(arguments: [
            "serve(*range(40000, 40100, 2))",
            """
            for port in range(40000, 40100, 2):
                bound = socket.socket(); bound.bind(('127.0.0.9', port)); keep.append(bound)
            """,
        ])
        func portsThatOthersHaveBoundAreNotThere(_ holders: String) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    \(holders)
                    serve(443); made = 0
                    try:
                        while True: connect(443); made += 1
                    except OSError as error: print(made, error.errno, flush=True)
                    """)
                try ending(process) {
                    #expect(process.outputSoFar.contains("50 \(EADDRNOTAVAIL)"))
                    let findings = try findings(sandbox)
                    // Nobody binds before it connects here, although odd ports are all that is
                    // left.
                    #expect(kinds(findings) == ["destination-filling", "small-range"])
                    let filling = numbers(findings, "destination-filling")
                    #expect(filling?["used"] == 50)
                    #expect(filling?["possible"] == 50)
                    #expect(filling?["locked"] == 50)
                }
            }
        }

        @Test func aPortThatIsLockedAtOneAddressIsMissedAtAnother() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    serve(443, *range(1000, 1040))
                    for port in range(1000, 1040): connect(port, '127.0.0.9')
                    try:
                        while True: connect(443)
                    except OSError: pass
                    """)
                try ending(process) {
                    let filling = numbers(try findings(sandbox), "destination-filling")
                    #expect(filling?["used"] == 60)
                    #expect(filling?["possible"] == 60)
                }
            }
        }

        /// tcp_tw_reuse gives a port out again after a second, not before.
        @Test func freshTimeWaitHoldsItsPort() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                try sandbox.sysctl("net.ipv4.tcp_tw_reuse", "1")
                let process = try sandbox.condition(
                    """
                    serve(443)
                    print('up', flush=True)
                    while True:
                        client = socket.socket()
                        try:
                            client.connect(('127.0.0.1', 443))
                            client.close(); keep[0].accept()[0].close()
                        except OSError: time.sleep(0.01)
                    """)
                try ending(process) {
                    let isSeen = try eventually {
                        (numbers(try findings(sandbox), "destination-filling")?["used"] ?? 0) > 90
                    }
                    #expect(isSeen)
                }
            }
        }

        @Test func noPortsAtAllIsCritical() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40009")
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40009")
                let findings = try findings(sandbox)
                #expect(findings.first?["kind"] as? String == "small-range")
                #expect(findings.first?["severity"] as? String == "critical")
            }
        }

        /// Sandboxes do this, so that nothing is opened any more.
        @Test(arguments: [0, 2])
        func aLimitBelowWhatIsOpenIsMeant(_ limit: Int) throws {
            try Sandbox.run { sandbox in
                let process = try sandbox.condition(
                    "resource.setrlimit(resource.RLIMIT_NOFILE, (\(limit), 500))")
                try ending(process) {
                    let findings = try findings(sandbox)
                    #expect(kinds(findings) == [])
                }
            }
        }

        @Test func socketsThatShareAPortAreNotCountedAsIfTheyDidNot() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let process = try sandbox.condition(
                    """
                    for port in range(1000, 1500): udp(40001, port)
                    for _ in range(75):
                        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        client.connect(('127.0.0.1', 53)); keep.append(client)
                    """)
                try ending(process) {
                    let findings = try findings(sandbox)
                    #expect(numbers(findings, "udp-program-near-limit")?["sockets"] == 75)
                    #expect(numbers(findings, "source-filling")?["used"] == 76)
                    // More destinations are of no use to them.
                    let remedies = findings.flatMap { $0["remedies"] as? [JSONObject] ?? [] }
                    #expect(
                        !remedies.contains {
                            ($0["text"] as? String)?.contains("127.0.0.0/8") == true
                        })
                }
            }
        }

        /// As many open as close: nothing fills up, though no two looks find the same number.
        @Test func comingAndGoingIsNoTrend() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
                let process = try sandbox.condition(
                    """
                    import random
                    serve(443)
                    def end():
                        client = keep.pop(random.randrange(1, len(keep)))
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + 7 * [0]))
                        client.close()
                    for _ in range(400): connect(443)
                    print('up', flush=True)
                    while True:
                        for _ in range(9): end()
                        time.sleep(0.1)
                        for _ in range(9): connect(443)
                        time.sleep(0.1)
                    """)
                try ending(process) {
                    for _ in 0..<6 {
                        let findings = try findings(sandbox, sample: "0.3")
                        #expect(kinds(findings) == ["small-range"])
                    }
                }
            }
        }

        // MARK: - Shadows

        @Test func resolvingOneOfThreeLeavesTwo() throws {
            try Sandbox.run { sandbox in
                let process = try sandbox.condition("for _ in range(3): udp(5050, 6050)")
                try ending(process) {
                    func resolve() throws -> (status: Int32, remaining: Int?) {
                        let outcome = try sandbox.tupleguard(
                            "shadows", "--namespace", "self", "--resolve", "--yes", "--json")
                        let resolved = try outcome.json["resolved"] as? [JSONObject]
                        return (outcome.status, resolved?.first?["remaining"] as? Int)
                    }
                    for (status, remaining) in [(2, 1), (0, 0), (0, nil)] as [(Int32, Int?)] {
                        let resolved = try resolve()
                        #expect(resolved.status == status)
                        #expect(resolved.remaining == remaining)
                    }
                }
            }
        }

        /// A user without root sees neither other users' namespaces nor that there are any.
        @Test func namespacesThatMayNotBeSeenAreToldOf() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard("shadows", "--json", asNobody: true)
                let unseen = try outcome.json["unseen"] as? [String]
                #expect(unseen?.first?.contains("processes that we may not look at") == true)
            }
        }

        // MARK: - The agent without BPF

        /// It is for where BPF is not allowed, and so is what shows its findings.
        @Test func whatTheScanFoundIsShownWithoutBPF() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.start(
                    Sandbox.program("tupleguard"), ["run", "--scan", "--interval", "1"])
                try ending(agent) {
                    #expect(eventually { agent.errorsSoFar.contains("ready") })
                    let missing = "-bpf,-perfmon,-sys_admin"
                    let unprivileged =
                        "setpriv --bounding-set \(missing) --inh-caps \(missing) \"$1\""
                    for subcommand in ["stats", "conflicts"] {
                        let outcome = try command(sandbox, "\(unprivileged) \(subcommand) --json")
                        #expect(outcome.status == 0, "\(outcome.errors)")
                        #expect(outcome.errors.contains("CAP_BPF"))
                    }
                }
            }
        }

        // MARK: - Lab

        @Test func rowsThatLackDescriptorsAreLeftOut() throws {
            try Sandbox.run { sandbox in
                let outcome = try command(
                    sandbox, "ulimit -n 100; \"$1\" lab --only tcp-connect,unix --json")
                #expect(outcome.status == 0)
                let report = try outcome.json
                #expect((report["techniques"] as? [Any])?.isEmpty == true)
                let leftOut = report["left_out"] as? [JSONObject] ?? []
                #expect(leftOut.compactMap { $0["name"] as? String } == ["tcp-connect", "unix"])
                #expect((leftOut.first?["why"] as? String)?.contains("may have 100") == true)
            }
        }

        // MARK: - Output

        @Test(arguments: [
            "doctor --namespace self --sample 0", "shadows --namespace self --json", "--help",
        ])
        func outputThatIsLostIsAFailure(_ arguments: String) throws {
            try Sandbox.run { sandbox in
                let full = try command(sandbox, "\"$1\" \(arguments) >/dev/full")
                #expect(full.status == 1)
                #expect(full.errors == "Error: cannot write the output: is the disk full?\n")
                // Who wants none gets none.
                #expect(try command(sandbox, "\"$1\" \(arguments) >&-").status == 0)
            }
        }
    }
}
