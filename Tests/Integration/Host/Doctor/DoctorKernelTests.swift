// SPDX-License-Identifier: Apache-2.0
// Faults of the kernel that the tests run on, whichever those are: Python tries them too.

import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorKernels: DoctorSuite {
        /// What a program of ours sees of one fault, "yes" or "no".
        private func seen(_ script: String, in sandbox: Sandbox) throws -> Bool {
            let process = try sandbox.condition(script)
            defer { process.end() }
            return process.outputSoFar.contains("fault: yes")
        }

        private func basis(_ finding: [String: Any]?) -> String? {
            ((finding?["notes"] as? [String])?.first).map {
                $0.contains("when it was tried") ? "measured" : "version"
            }
        }

        /// Two sockets go for one tuple, and the first has had another destination before: whose
        /// is the answer?
        @Test func socketsThatAreConnectedTwice() throws {
            try Sandbox.run { sandbox in
                let isFaulty = try seen(
                    """
                    servers = [udp(6001, 9), udp(6002, 9)]
                    def server(port):
                        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        s.bind(('127.0.0.1', port)); keep.append(s); return s
                    server(6003); answering = server(6004)
                    first = udp(5000, 6003)
                    second = udp(5000, 6004)
                    first.connect(('127.0.0.1', 6004))
                    answering.sendto(b'answer', ('127.0.0.1', 5000))
                    import select
                    (ready, _, _) = select.select([first, second], [], [], 60)
                    has_hash = tuple(map(int, os.uname().release.split('.')[:2])) >= (6, 13)
                    print('fault:', 'yes' if ready == [second] and has_hash else 'no', flush=True)
                    """, in: sandbox)
                let finding = try diagnose(sandbox).findings("stale-tuple-hash").first
                #expect((finding != nil) == isFaulty)
                #expect(basis(finding) == (isFaulty ? "measured" : nil))
            }
        }

        /// A port serves one destination, then a bind() comes and goes: does it serve another?
        @Test func portsAfterABindHasGone() throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40000")
                let isFaulty = try seen(
                    """
                    serve(443, 444)
                    def client():
                        c = socket.socket(); c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        keep.append(c); return c
                    client().connect(('127.0.0.1', 443))
                    visitor = client(); visitor.bind(('127.0.0.1', 40000)); visitor.close()
                    try: client().connect(('127.0.0.1', 444)); print('fault: no', flush=True)
                    except OSError: print('fault: yes', flush=True)
                    """, in: sandbox)
                let finding = try diagnose(sandbox).findings("closed-ports").first
                #expect((finding != nil) == isFaulty)
                #expect(basis(finding) == (isFaulty ? "measured" : nil))
                #expect(
                    try diagnose(sandbox, asNobody: true).findings("closed-ports").count
                        == (isFaulty ? 1 : 0))
            }
        }

        /// A guard refuses the second socket of the trial, which is no conflict to it.
        @Test func tryingAccusesNobody() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let before = try sandbox.counters()
                let outcome = try sandbox.tupleguard(
                    "doctor", "--namespace", "self", "--sample", "0", "--json", in: sandbox.cgroup)
                #expect(outcome.status == 0)
                let after = try sandbox.counters()
                #expect(after[.selfTests] > before[.selfTests])
                #expect(after.refused == before.refused)
                #expect(try sandbox.claims().isEmpty)
                let kernel = try #require(KernelVersion.running)
                let findings = try outcome.json["findings"] as? [[String: Any]] ?? []
                let stale = findings.first { $0["kind"] as? String == "stale-tuple-hash" }
                let isExpected = kernel >= KernelVersion(6, 13) && kernel < KernelVersion(6, 19)
                #expect(basis(stale) == (isExpected ? "version" : nil))
            }
        }
    }
}
