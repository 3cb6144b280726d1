// SPDX-License-Identifier: Apache-2.0
// What needs no BPF on kernels before 5.14, which tell nobody the cookie of a network namespace.

import Testing
import TupleguardLinux
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct OlderKernels {
        /// getsockopt(SO_NETNS_COOKIE) fails from here on, as before Linux 5.14.
        private static let forgetCookie =
            denial + "deny(55, 209, argument=(2, 71), error=errno.ENOPROTOOPT)\n"

        private func start(_ sandbox: Sandbox, _ arguments: String..., asNobody: Bool = false)
            throws -> RunningProgram
        {
            try sandbox.start(
                "/usr/bin/env",
                [
                    "python3", "-c",
                    Self.forgetCookie + "import sys; os.execv(sys.argv[1], sys.argv[1:])",
                    Sandbox.program("tupleguard"),
                ] + arguments, asNobody: asNobody)
        }

        @Test func shadowsAndDoctorSee() throws {
            try Sandbox.run { sandbox in
                for _ in 0..<2 { _ = try sandbox.lastingCondition("udp(5000, 6000)") }
                let shadows = try start(sandbox, "shadows", "--namespace", "self").wait()
                #expect(shadows.status == 2, "\(shadows.errors)")
                #expect(shadows.output.contains("127.0.0.1:5000 -> 127.0.0.1:6000"))
                let doctor = try start(
                    sandbox, "doctor", "--namespace", "self", "--sample", "0"
                ).wait()
                #expect(
                    doctor.output.contains("127.0.0.1:5000 -> 127.0.0.1:6000"), "\(doctor.errors)")
            }
        }

        /// What other tests share may have used up the allowance of the agent's log; who asks is
        /// told all of it.
        private func isTold(_ sandbox: Sandbox, _ local: String) -> Bool {
            let report = try? sandbox.tupleguard("conflicts", "--json").json
            let conflicts = report?["conflicts"] as? [JSONObject] ?? []
            return conflicts.contains { $0["local"] as? String == local }
        }

        @Test func theScanningAgentFinds() throws {
            try Sandbox.run { sandbox in
                let agent = try start(sandbox, "run", "--userspace", "--interval", "1")
                try ending(agent) {
                    for _ in 0..<2 { _ = try sandbox.lastingCondition("udp(5321, 6000)") }
                    #expect(
                        eventually {
                            agent.errorsSoFar.contains("found 127.0.0.1:5321 -> 127.0.0.1:6000")
                                || isTold(sandbox, "127.0.0.1:5321")
                        }, "\(agent.errorsSoFar)")
                }
            }
        }

        /// The guard itself says on such a kernel what is in its way, and what works.
        @Test(.enabled(if: KernelVersion.running.map { $0 < KernelVersion(6, 1) } ?? false))
        func theGuardSaysWhatWorks() throws {
            try Sandbox.run { sandbox in
                let attach = try sandbox.tupleguard("attach", sandbox.cgroup.path)
                #expect(attach.status == 1)
                let release = KernelVersion.runningRelease
                #expect(attach.errors.contains("kernel \(release) is too old for the guard"))
                #expect(attach.errors.contains("tupleguard run --scan"))
            }
        }

        /// Whoever may ask in which namespace a socket is, and who may not.
        @Test(arguments: [false, true])
        func connectxSharesPorts(asNobody: Bool) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "41000 41001")
                let outcome = try start(
                    sandbox, "connect", "udp", "127.0.0.1:9,127.0.0.1:10,127.0.0.1:11", "--count",
                    "6",
                    asNobody: asNobody
                ).wait()
                #expect(
                    outcome.output.hasPrefix("opened 6 connections of 6 from 2 local ports"),
                    "\(outcome.errors)")
            }
        }

        /// The sockets of two namespaces, from one thread.
        @Test func namespacesAreToldApart() throws {
            try IntegrationTests.ConnectxFromC().expect(
                Self.forgetCookie + """
                    libc, to, mine = ctypes.CDLL(None), ('127.0.0.1', 9), ('127.0.0.1', 42000)
                    old = [udp() for _ in range(3)]
                    assert libc.unshare(0x40000000) == 0
                    os.system('ip link set lo up')
                    new = [udp() for _ in range(3)]
                    print([attempt(s, to, mine) for pair in zip(old, new) for s in pair[:2]])
                    print(attempt(old[1], ('127.0.0.1', 10), mine), attempt(new[1], ('127.0.0.1', 10), mine))
                    """,
                prints: """
                    ['ok', 'ok', 'EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE', 'EADDRINUSE']
                    ok ok
                    """)
        }
    }
}
