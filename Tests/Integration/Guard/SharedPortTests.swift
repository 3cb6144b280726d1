// SPDX-License-Identifier: Apache-2.0
// Sockets whose port the kernel chooses, and may choose for several: none of them may come to
// another's tuple.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct SharedPorts {
        /// A sandbox with so few local ports that chance alone would make sockets meet.
        private func run(
            _ policy: Policy = Policy(), ports: Int = 4, _ body: (Sandbox) throws -> Void
        ) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl(
                    "net.ipv4.ip_local_port_range", "40000 \(40000 + ports - 1)")
                try sandbox.attach(policy, tableSize: 4096)
                try body(sandbox)
            }
        }

        private static let destinations = [
            (Sandbox.Kind.v4, "127.0.0.1:6000"), (.v6, "[::1]:6000"),
            (.v6, "[::ffff:127.0.0.1]:6000"),
        ]

        // MARK: - SO_REUSEPORT

        @Test(arguments: destinations)
        func reuseportSocketsOfOneUserGetPortsOfTheirOwn(
            _ kind: Sandbox.Kind, _ destination: String
        ) throws {
            try run { sandbox in
                var names: [String] = []
                for _ in 0..<4 {
                    let socket = try sandbox.socket(kind, sharing: false)
                    try socket.set(SOL_SOCKET, SO_REUSEPORT, 1)
                    #expect(socket.connect(destination) == nil)
                    names.append("\(socket.local!)")
                }
                #expect(Set(names).count == 4)
                let more = try sandbox.socket(kind, sharing: false)
                try more.set(SOL_SOCKET, SO_REUSEPORT, 1)
                #expect(more.connect(destination) == "EADDRNOTAVAIL")
                #expect(more.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                let counters = try sandbox.counters()
                #expect(counters["discovered"] == 4)
                #expect(counters["exclusive_port"] == 0)
            }
        }

        /// What SO_REUSEPORT is for: a port to each destination anew, from the same few.
        @Test func reuseportSocketsShareWithinTheirUser() throws {
            try run(ports: 2) { sandbox in
                for number in 0..<20 {
                    let socket = try sandbox.socket(sharing: false)
                    try socket.set(SOL_SOCKET, SO_REUSEPORT, 1)
                    #expect(socket.connect("127.0.0.1:\(6000 + number)") == nil)
                }
                #expect(try sandbox.counters()["discovered"] == 20)
            }
        }

        @Test func reuseportSocketsThatTheKernelChoosesForAreNotCalledExclusive() throws {
            var policy = Policy()
            policy.discover = .off
            try run(policy) { sandbox in
                let socket = try sandbox.socket(sharing: false)
                try socket.set(SOL_SOCKET, SO_REUSEPORT, 1)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.counters()["unresolved"] == 1)
                #expect(try sandbox.counters()["exclusive_port"] == 0)
            }
        }
    }
}
