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
                #expect(counters[.discovered] == 4)
                #expect(counters[.exclusivePort] == 0)
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
                #expect(try sandbox.counters()[.discovered] == 20)
            }
        }

        @Test func reuseportSocketsThatTheKernelChoosesForAreNotCalledExclusive() throws {
            var policy = Policy()
            policy.discover = .off
            try run(policy) { sandbox in
                let socket = try sandbox.socket(sharing: false)
                try socket.set(SOL_SOCKET, SO_REUSEPORT, 1)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.counters()[.unresolved] == 1)
                #expect(try sandbox.counters()[.exclusivePort] == 0)
            }
        }

        // MARK: - bind(address, 0)

        /// What resolvers and proxies with a source address do: the port is chosen before it is
        /// known where they connect to.
        @Test(arguments: [
            (Sandbox.Kind.v4, "127.0.0.1:0", "127.0.0.1:6000"),
            (.v4, "0.0.0.0:0", "127.0.0.1:6000"), (.v6, "[::1]:0", "[::1]:6000"),
            (.v6, "[::]:0", "[::ffff:127.0.0.1]:6000"),
        ])
        func socketsBoundWithoutAPortDoNotMeet(
            _ kind: Sandbox.Kind, _ source: String, _ destination: String
        ) throws {
            try run(ports: 200) { sandbox in
                var ports: Set<UInt16> = []
                for option in [SO_REUSEADDR, SO_REUSEPORT] {
                    for _ in 0..<40 {
                        let socket = try sandbox.socket(kind, sharing: false)
                        try socket.set(SOL_SOCKET, option, 1)
                        try socket.bind(source)
                        #expect(socket.connect(destination) == nil)
                        ports.insert(socket.local!.port)
                    }
                }
                #expect(ports.count == 80)
                #expect(try sandbox.counters().refused == 0)
                #expect(try sandbox.counters()[.bound] == 80)
            }
        }

        /// Beyond the number of ports sharing is what a program means by it.
        @Test func whoSharesOnPurposeGoesOnSharing() throws {
            try run(ports: 4) { sandbox in
                for number in 0..<60 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:0")
                    #expect(socket.connect("127.0.0.1:\(6000 + number)") == nil)
                    #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 1)
                }
                let first = try sandbox.socket(bound: "127.0.0.2:0")
                let second = try sandbox.socket(bound: "127.0.0.2:\(first.local!.port)")
                #expect(second.local == first.local)
            }
        }

        /// The port has to be one that the kernel might have chosen.
        @Test func thePortOfABindIsOneThatTheKernelMightHaveChosen() throws {
            try run(ports: 6) { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "40000,40002-40003")
                let own = try sandbox.socket(bound: "127.0.0.1:40001", sharing: false)
                // Again and again: which port is tried first is chance.
                for _ in 0..<6 {
                    let sockets = try (0..<2).map { _ in try sandbox.socket(bound: "127.0.0.1:0") }
                    #expect(Set(sockets.map { $0.local!.port }) == [40004, 40005])
                    for socket in sockets { sandbox.close(socket) }
                }
                _ = own
            }
        }

        @Test func whoeverLeavesThePortToConnectIsLeftAlone() throws {
            try run { sandbox in
                let socket = try sandbox.socket()
                try socket.bindWithoutPort("127.0.0.1")
                #expect(socket.local!.port == 0)
                let exclusive = try sandbox.socket(bound: "127.0.0.1:0", sharing: false)
                #expect(exclusive.local!.port != 0)
                #expect(try sandbox.counters()[.bound] == 0)
            }
            for (mode, discover) in [
                (Policy.Mode.observe, Policy.Discover.reuseaddr), (.enforce, .off),
            ] {
                var policy = Policy()
                policy.mode = mode
                policy.discover = discover
                try run(policy) { sandbox in
                    _ = try sandbox.socket(bound: "127.0.0.1:0")
                    #expect(try sandbox.counters()[.bound] == 0)
                }
            }
        }
    }
}
