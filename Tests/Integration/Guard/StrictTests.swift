// SPDX-License-Identifier: Apache-2.0
// The strict policy: nothing is taken on trust, so no program comes to another's tuple, however
// it changes its sockets while they connect.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Strict {
        /// A sandbox with a strict guard, and few local ports where that matters.
        private func run(
            _ discover: Policy.Discover = .reuseaddr, ports: Int? = nil,
            _ body: (Sandbox) throws -> Void
        ) throws {
            var policy = Policy()
            policy.isStrict = true
            policy.discover = discover
            try Sandbox.run { sandbox in
                if let ports {
                    try sandbox.sysctl(
                        "net.ipv4.ip_local_port_range", "40000 \(40000 + ports - 1)")
                }
                try sandbox.attach(policy, tableSize: 4096)
                try body(sandbox)
            }
        }

        private static let families: [(Sandbox.Kind, String)] = [
            (.v4, "127.0.0.1"), (.v6, "[::1]"),
        ]

        // MARK: - Sockets without a port

        @Test(arguments: families, Policy.Discover.allCases)
        func everySocketWithoutAPortHasAClaim(
            _ family: (Sandbox.Kind, String), _ discover: Policy.Discover
        ) throws {
            let (kind, address) = family
            try run(discover) { sandbox in
                let socket = try sandbox.socket(kind, sharing: false)
                #expect(socket.connect("\(address):6000") == nil)
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == (discover == .all ? 1 : 0))
                let claim = try #require(try sandbox.claims().first)
                #expect(claim.tuple.local.port == socket.local!.port)
                let counters = try sandbox.counters()
                #expect(counters[.claimed] == 1)
                #expect(counters[.exclusivePort] + counters[.unresolved] == 0)
            }
        }

        @Test(arguments: families)
        func aPortOfOnesOwnIsReallyFree(_ kind: Sandbox.Kind, _ address: String) throws {
            try run(ports: 5) { sandbox in
                // Two ports that others share, one that another has alone.
                for port in [40000, 40001] {
                    let other = try sandbox.socket(kind, bound: "\(address):\(port)")
                    #expect(other.connect("\(address):7000") == nil)
                }
                _ = try sandbox.socket(kind, bound: "\(address):40002", sharing: false)
                var ports: Set<UInt16> = []
                for _ in 0..<2 {
                    let socket = try sandbox.socket(kind, sharing: false)
                    #expect(socket.connect("\(address):6000") == nil)
                    ports.insert(socket.local!.port)
                }
                #expect(ports == [40003, 40004])
                let more = try sandbox.socket(kind, sharing: false)
                #expect(more.connect("\(address):6000") == "EADDRNOTAVAIL")
                #expect(more.local!.port == 0)
            }
        }

        /// Programs that bind without a port first, as most that listen for answers do.
        @Test(arguments: families)
        func aBindWithoutAPortGetsOneForGood(_ kind: Sandbox.Kind, _ address: String) throws {
            try run { sandbox in
                let socket = try sandbox.socket(kind, bound: "\(address):0", sharing: false)
                let port = socket.local!.port
                #expect(socket.connect("\(address):6000") == nil)
                try socket.disconnect()
                #expect(socket.local!.port == port)
                #expect(socket.connect("\(address):6001") == nil)
                #expect(socket.local!.port == port)
            }
        }

        @Test(arguments: families)
        func aPortThatCouldStillChangeIsRefused(_ kind: Sandbox.Kind, _ address: String) throws {
            try run { sandbox in
                let socket = try sandbox.socket(kind, sharing: false)
                try socket.send("x", to: Endpoint("\(address):9")!)
                #expect(socket.local!.port != 0)
                #expect(socket.connect("\(address):6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedUnlocked] == 1)
                let conflict = try #require(try sandbox.state.conflicts().first)
                #expect(conflict.last.reason == .unlocked)
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }

        // MARK: - Sharing that begins late

        @Test(arguments: families, [SO_REUSEADDR, SO_REUSEPORT])
        func whoBeginsToShareLateKeepsItsTuple(
            _ family: (Sandbox.Kind, String), _ option: Int32
        ) throws {
            let (kind, address) = family
            try run { sandbox in
                let victim = try sandbox.socket(kind, sharing: false)
                #expect(victim.connect("\(address):6000") == nil)
                try victim.set(SOL_SOCKET, option, 1)
                let wildcard = kind == .v6 ? "[::]" : "0.0.0.0"
                for source in [address, wildcard] {
                    let newcomer = try sandbox.socket(kind, sharing: false)
                    try newcomer.set(SOL_SOCKET, option, 1)
                    do {
                        try newcomer.bind("\(source):\(victim.local!.port)")
                    } catch {
                        continue  // the kernel does not let it share: as good
                    }
                    #expect(newcomer.connect("\(address):6000") == "EPERM")
                }
            }
        }

        // MARK: - Hostile programs

        @Test(
            arguments: ["bind", "toggle", "disconnect"],
            [(Sandbox.Kind.v4, "127.0.0.1"), (.v6, "::1")])
        func aSocketThatIsChangedWhileItConnectsDoesNotComeToAnothersTuple(
            _ method: String, _ family: (Sandbox.Kind, String)
        ) throws {
            let (kind, address) = family
            let shown = kind == .v6 ? "[\(address)]" : address
            try run { sandbox in
                let server = try sandbox.socket(kind, bound: "\(shown):7200", sharing: false)
                let victim = try sandbox.socket(kind, bound: "\(shown):45200")
                #expect(victim.connect("\(shown):7200") == nil)
                let outcome = try sandbox.start(
                    Sandbox.program("tupleguard-meddler"),
                    [method, address, "45200", "7200", "20000"], in: sandbox.cgroup,
                    asNobody: true)
                #expect(eventually { outcome.outputSoFar.contains("\n") })
                #expect(outcome.outputSoFar.hasPrefix("not taken"), "\(outcome.outputSoFar)")
                try server.send("answer", to: victim.local!)
                #expect(victim.receive() == "answer")
                outcome.signal(SIGKILL)
                _ = outcome.wait()
            }
        }
    }
}
