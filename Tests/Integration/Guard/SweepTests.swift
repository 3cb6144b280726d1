// SPDX-License-Identifier: Apache-2.0
// The sweep: it finds every claim and record whose socket left without a release hook, and nothing
// else, whatever else happens meanwhile.

import Testing
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Sweep {
        /// Records of sockets, wherever they are kept; on request also the tuples that belong to
        /// them, of which a socket that stays may have one.
        private func records(_ state: GuardState, withTuples: Bool = false) throws -> Int {
            var count = 0
            // A record begins with its owner's cookie, and is as long as eight words.
            try state.open(.socketRecords).forEach(UInt32.self, SIMD8<UInt64>.self) { _, record in
                if record[0] != 0 { count += 1 }
            }
            try state.open(.socketRecordsMore).forEach(SIMD2<UInt64>.self, SIMD8<UInt64>.self) {
                key, _ in
                if key[1] == 0 || withTuples { count += 1 }
            }
            return count
        }

        /// Sockets with claims of every kind.
        private func connectMany(in sandbox: Sandbox, count: Int) throws -> [TestSocket] {
            var sockets: [TestSocket] = []
            for index in 0..<count {
                let socket: TestSocket
                let error: String?
                switch index % 4 {
                case 0:  // those of one port and destination form one group
                    socket = try sandbox.socket(bound: "127.0.1.\(1 + index / 4):5000")
                    error = socket.connect("127.0.0.1:6000")
                case 1:
                    socket = try sandbox.socket(bound: "0.0.0.0:5001")
                    error = socket.connect("127.0.0.1:\(6000 + index)")
                case 2:
                    socket = try sandbox.socket(.v6, bound: "[::1]:5002")
                    error = socket.connect("[::1]:\(6000 + index)")
                default:  // several claims of one socket: the grace period of the first is not over
                    socket = try sandbox.socket(bound: "127.0.0.1:5003")
                    error = socket.connect("127.0.0.1:\(6000 + index)")
                }
                #expect(error == nil)
                sockets.append(socket)
            }
            return sockets
        }

        @Test("A release that no hook saw", arguments: [64, 4096])
        func missedRelease(tableSize: Int) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.outsiders = .ignore
                // The maps outlive the guard of one cgroup when another has one.
                try sandbox.attach(policy, tableSize: tableSize)
                try sandbox.attach(policy, to: sandbox.outside, tableSize: tableSize)
                let missed = try connectMany(in: sandbox, count: 60)
                try sandbox.state.detach(sandbox.cgroup.id, path: "")
                for socket in missed { sandbox.close(socket) }
                let kept = try sandbox.socket(bound: "127.0.0.1:5004", in: sandbox.outside)
                #expect(kept.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.state.claimCount() == 61)
                #expect(try records(sandbox.state) >= 61)

                // Memory of a socket is given back after an RCU grace period.
                var swept = Swept()
                let isClean = try eventually {
                    let pass = try sandbox.state.sweep()
                    swept.dropped += pass.dropped
                    return try sandbox.state.claimCount() == 1 && records(sandbox.state) == 1
                }
                #expect(isClean)
                #expect(swept.dropped == 60)
                #expect(try sandbox.claims().map(\.tuple.local.port) == [5004])
                #expect(try sandbox.state.sweep() == Swept(claims: 1))
                sandbox.close(kept)
                #expect(try sandbox.state.claimCount() == 0)
                #expect(try records(sandbox.state, withTuples: true) == 0)
            }
        }

        /// Many pieces, the whole table, and nothing that a socket holds.
        @Test(arguments: [64, 8192]) func whatIsHeldStays(tableSize: Int) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: tableSize)
                let sockets = try connectMany(in: sandbox, count: 60)
                for _ in 0..<3 { #expect(try sandbox.state.sweep() == Swept(claims: 60)) }
                for socket in sockets { sandbox.close(socket) }
                #expect(try sandbox.state.claimCount() == 0)
                #expect(try records(sandbox.state, withTuples: true) == 0)
            }
        }

        /// A record that is being written looks like one of a socket that is gone.
        @Test func socketsThatComeAndGoMeanwhile() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 64)
                let churn = """
                    import collections, socket, sys
                    keep = collections.deque(maxlen=16)  # so that memory is not used again at once
                    for round in range(20000):
                        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        made.bind(('127.0.0.1', 5000 + int(sys.argv[1])))
                        made.connect(('127.0.0.1', 6000 + round % 1000))
                        keep.append(made)
                    """
                let programs = try (0..<3).map { index in
                    try sandbox.start(
                        "/usr/bin/python3", ["-c", churn, "\(index)"], in: sandbox.cgroup)
                }
                let sweeper = try Sweeper(sandbox.state)
                while programs.contains(where: \.isRunning) { _ = try sweeper.sweep() }
                for program in programs {
                    let outcome = program.wait()
                    #expect(outcome.status == 0, "\(outcome.errors)")
                }
                #expect(try sandbox.counters()[.claimed] == 60_000)
                #expect(try sandbox.counters()[.released] == 60_000)
                #expect(try sandbox.state.claimCount() == 0)
                #expect(try records(sandbox.state, withTuples: true) == 0)
            }
        }
    }
}
