// SPDX-License-Identifier: Apache-2.0
// A table that runs short: whoever fills it neither ends the guard for others nor stays unnamed.

import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct TableFull {
        /// Connects until it is killed; with several threads, so that sockets have several claims.
        private static let hoard = """
            import socket, sys, threading
            count, port = int(sys.argv[1]), int(sys.argv[2])
            keep = []
            for index in range(count):
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(('127.0.0.1', port + index % 256))
                keep.append(made)
            def connect(thread):
                for index, made in enumerate(keep):
                    made.connect(('127.0.0.%d' % (1 + index // 256), 1000 + thread))
            for thread in range(3):
                worker = threading.Thread(target=connect, args=(thread,))
                worker.start(); worker.join()
            print('hoarded', flush=True)
            threading.Event().wait()
            """

        private func hoarding(
            _ count: Int, in cgroup: Cgroup, of sandbox: Sandbox,
            _ body: (RunningProgram) throws -> Void
        ) throws {
            let process = try sandbox.start(
                "/usr/bin/python3", ["-c", Self.hoard, "\(count)", "10000"], in: cgroup,
                asNobody: true)
            defer {
                process.signal(SIGKILL)
                _ = process.wait()
            }
            #expect(eventually { process.outputSoFar.contains("hoarded") || !process.isRunning })
            #expect(process.isRunning, "\(process.errorsSoFar)")
            try body(process)
        }

        /// How many of so many tuples two sockets could connect to.
        private func heldTwice(_ count: Int, in sandbox: Sandbox, cgroup: Cgroup) throws -> Int {
            var twice = 0
            for index in 0..<count {
                let first = try sandbox.socket(bound: "127.0.0.1:5000", in: cgroup)
                let second = try sandbox.socket(bound: "127.0.0.1:5000", in: cgroup)
                #expect(first.connect("127.0.0.1:\(20000 + index)") == nil)
                if second.connect("127.0.0.1:\(20000 + index)") == nil { twice += 1 }
                sandbox.close(second)
            }
            return twice
        }

        private var withoutLookUp: Policy {
            var policy = Policy()
            policy.lookUp = .off
            return policy
        }

        @Test func outsidersCannotFillIt() throws {
            try Sandbox.run { sandbox in
                var policy = withoutLookUp
                policy.outsiders = .ignore  // or they claim when they connect
                try sandbox.attach(policy, tableSize: 1024)
                let guarded = try sandbox.socket()
                try hoarding(3000, in: sandbox.outside, of: sandbox) { _ in
                    let seeded = try sandbox.state.seed()
                    #expect(seeded.claimed == 256)
                    #expect(seeded.overShare > 2000)
                    #expect(try heldTwice(300, in: sandbox, cgroup: sandbox.cgroup) == 0)
                }
                sandbox.close(guarded)
                #expect(try sandbox.counters()[.allowedTableFull] == 0)
            }
        }

        /// The same where they claim when they connect.
        @Test func outsidersThatAreSeenCannotFillIt() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(withoutLookUp, tableSize: 1024)
                try hoarding(3000, in: sandbox.outside, of: sandbox) { _ in
                    let outsiders = try #require(try sandbox.state.outsidersAttachment())
                    #expect(outsiders.counters[.claimed] > 256)
                    #expect(outsiders.counters[.allowedTableFull] > 1000)
                    #expect(try heldTwice(300, in: sandbox, cgroup: sandbox.cgroup) == 0)
                }
                #expect(try sandbox.counters()[.allowedTableFull] == 0)
            }
        }

        @Test func insidersCannotFillIt() throws {
            try Sandbox.run { sandbox in
                let victims = try sandbox.makeChild("victims")
                try sandbox.attach(withoutLookUp, tableSize: 1024)
                try hoarding(2000, in: sandbox.cgroup, of: sandbox) { process in
                    #expect(try sandbox.state.claimCount() > 1024)
                    #expect(try sandbox.state.filling() >= 1)
                    #expect(try heldTwice(200, in: sandbox, cgroup: victims) == 0)
                    #expect(try sandbox.counters()[.allowedTableFull] > 100)

                    let conflict = try #require(
                        try sandbox.state.conflicts().first { $0.last.reason == .tableFull })
                    #expect(conflict.last.action == .observed)
                    #expect(conflict.last.holder?.uid == 65534)
                    #expect(conflict.last.holder?.cgroupId == sandbox.cgroup.id)
                    #expect(conflict.last.holder?.pid == process.pid)
                    let owner = try #require(try sandbox.state.largestOwners(1).first)
                    #expect(owner.pid == process.pid)
                    #expect(owner.uid == 65534)
                    let status = try sandbox.tupleguard("status")
                    #expect(status.output.contains("running short"), "\(status.output)")
                    #expect(status.output.contains("pid \(process.pid), uid 65534"))
                }
                // All that overflowed is counted back.
                let isEmpty = try eventually {
                    try sandbox.state.sweep()
                    return try sandbox.state.filling() < 0.4
                }
                #expect(isEmpty)
            }
        }

        @Test func theAgentSaysItOnceAndThatItIsOver() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    ["run", "--cgroup", sandbox.cgroup.folder, "--table-size", "1024"])
                sandbox.endWithSandbox(agent)
                #expect(eventually { agent.errorsSoFar.contains("ready, guarding") })
                try hoarding(2000, in: sandbox.cgroup, of: sandbox) { process in
                    #expect(
                        eventually {
                            agent.errorsSoFar.contains("the claim table runs short")
                                && agent.errorsSoFar.contains("pid \(process.pid), ")
                        }, "\(agent.errorsSoFar)")
                }
                #expect(eventually { agent.errorsSoFar.contains("the claim table has room again") })
                #expect(agent.errorsSoFar.components(separatedBy: "table runs short").count == 2)
                // Of sockets outside, which there are none of here, nothing is said.
                #expect(!agent.errorsSoFar.contains("such get a quarter of the table"))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        @Test func nobodyIsLimitedWhileThereIsRoom() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(withoutLookUp, tableSize: 8192)
                try hoarding(2000, in: sandbox.cgroup, of: sandbox) { _ in
                    #expect(try sandbox.counters()[.allowedTableFull] == 0)
                    #expect(try sandbox.state.filling() < GuardState.nearlyFull)
                    let status = try sandbox.tupleguard("status")
                    #expect(!status.output.contains("running short"))
                }
                #expect(try sandbox.counters()[.allowedTableFull] == 0)
            }
        }
    }
}
