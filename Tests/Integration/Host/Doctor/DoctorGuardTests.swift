// SPDX-License-Identifier: Apache-2.0
// Overshadowed sockets, and a guard that is missing, too low or too small.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorGuards: DoctorSuite {
        @Test func udpSocketsThatAreOvershadowed() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.socket(bound: "127.0.0.1:6000")
                let answered = """
                    import threading
                    udp(5000, 6000)
                    def answer(): print(keep[0].recv(9), flush=True)
                    threading.Thread(target=answer, daemon=True).start()
                    """
                let first = try sandbox.condition(answered)
                try ending(first) {
                    #expect(try diagnose(sandbox).kinds == [])
                    let second = try sandbox.condition(answered)
                    try ending(second) {
                        let diagnosis = try diagnose(sandbox)
                        #expect(diagnosis.kinds == ["overshadowed", "unguarded"])
                        #expect(diagnosis.status == 2)
                        let finding = diagnosis.findings[0]
                        try server.send("hello", to: Endpoint("127.0.0.1:5000")!)
                        func receivers() -> [RunningProgram] {
                            [first, second].filter { $0.outputSoFar.contains("hello") }
                        }
                        #expect(eventually { receivers().count == 1 })
                        let receiver = receivers().first?.pid
                        #expect(pids(finding).first == receiver)
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

        @Test func aGuardThatIsMissingTooLowOrShortOfRoom() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.outsiders = .ignore
                policy.lookUp = .off
                try sandbox.attach(policy)
                #expect(try diagnose(sandbox).kinds == ["guard-without-agent"])
                // Inside and outside.
                let inside = try sandbox.socket(bound: "127.0.0.1:5000")
                let outside = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(inside.connect("127.0.0.1:6000") == nil)
                #expect(outside.connect("127.0.0.1:6000") == nil)
                let low = try diagnose(sandbox)
                #expect(low.kinds == ["overshadowed", "guard-too-low", "guard-without-agent"])
                #expect(number(low.findings[1], "overshadowed_tuples") == 1)
                sandbox.close(outside)
                #expect(try diagnose(sandbox).kinds == ["guard-without-agent"])
                // Refused because of a socket outside.
                policy.lookUp = .on
                try sandbox.state.attach(sandbox.cgroup, policy: policy, replacing: true)
                let other = try sandbox.socket(bound: "127.0.0.1:5001", in: sandbox.outside)
                let refused = try sandbox.socket(bound: "127.0.0.1:5001")
                #expect(other.connect("127.0.0.1:6000") == nil)
                #expect(refused.connect("127.0.0.1:6000") == "EPERM")
                let beside = try diagnose(sandbox)
                #expect(beside.kinds == ["guard-too-low", "guard-without-agent"])
                #expect(number(beside.findings[0], "refused_outside") == 1)
                #expect(beside.status == 1)
            }
        }

        @Test(arguments: [Policy.WhenFull.allow, .refuse])
        func connectsThatTheTableHadNoRoomFor(_ whenFull: Policy.WhenFull) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.whenFull = whenFull
                try sandbox.attach(policy, tableSize: 1024)
                let holder = try sandbox.condition(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                    for port in range(20000, 23500):
                        try: udp(port, 9)
                        except PermissionError: pass
                    """, in: sandbox.cgroup)
                try ending(holder) {
                    let counters = try sandbox.counters()
                    let without = counters[
                        whenFull == .allow ? .allowedTableFull : .refusedTableFull]
                    #expect(without > 0)
                    let finding = try #require(
                        try diagnose(sandbox).findings("guard-table-full").first)
                    #expect(number(finding, "without_room") == Int(without))
                    #expect(finding["severity"] as? String == "critical")
                }
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
                    let dropped = try sandbox.counters()[.eventsDropped]
                    #expect(dropped > 0)
                    let flooded = try #require(
                        try diagnose(sandbox).findings("guard-events-dropped").first)
                    #expect(number(flooded, "events_dropped") == Int(dropped))
                }
            }
        }
    }
}
