// SPDX-License-Identifier: Apache-2.0
// Sockets that came to a tuple past the guard: the next seeding finds them, and the agent ends
// the later one if it is told to.

import Glibc
import Testing
import TupleguardRecords
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent
@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct PastTheGuard {
        private static let families: [(Sandbox.Kind, String, String)] = [
            (.v4, "127.0.0.1", "0.0.0.0"), (.v6, "[::1]", "[::]"),
        ]

        /// A socket with a port of its own that begins to share it, and another that joins it
        /// there.
        private func overshadow(
            _ sandbox: Sandbox, _ family: (Sandbox.Kind, String, String), port: Int = 6000
        ) throws -> (first: TestSocket, second: TestSocket) {
            let (kind, address, wildcard) = family
            let first = try sandbox.socket(kind, sharing: false)
            #expect(first.connect("\(address):\(port)") == nil)
            try first.set(SOL_SOCKET, SO_REUSEADDR, 1)
            let second = try sandbox.socket(kind, bound: "\(wildcard):\(first.local!.port)")
            #expect(second.connect("\(address):\(port)") == nil)
            #expect(second.local == first.local)
            return (first, second)
        }

        private func shadows(_ sandbox: Sandbox) throws -> [GuardEvent] {
            let namespace = try sandbox.namespaceCookie()
            return try sandbox.state.conflicts().map(\.last).filter {
                $0.networkNamespace == namespace && $0.reason == .shadow
            }
        }

        @Test(arguments: families)
        func seedingAgainReportsBothProcesses(
            _ family: (Sandbox.Kind, String, String)
        ) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                try sandbox.state.seed()
                let (first, second) = try overshadow(sandbox, family)
                try sandbox.state.seed(again: true)
                try sandbox.state.seed(again: true)  // told once
                let found = try shadows(sandbox)
                #expect(found.count == 1)
                let shadow = try #require(found.first)
                #expect(shadow.tuple.local.port == first.local!.port)
                #expect(shadow.claimant?.pid == getpid())
                #expect(shadow.holder?.pid == getpid())
                #expect(shadow.claimantCookie != shadow.holderCookie)
                let conflicts = try sandbox.tupleguard("conflicts")
                #expect(conflicts.output.contains("one of them has not claimed it"))
                #expect(try sandbox.tupleguard("conflicts", "--json").output.contains("\"shadow\""))
                _ = second
            }
        }

        @Test(arguments: families)
        func theLaterSocketIsEnded(_ family: (Sandbox.Kind, String, String)) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                try sandbox.state.seed()
                let server = try sandbox.socket(
                    family.0, bound: "\(family.1):6000", sharing: false)
                let (first, second) = try overshadow(sandbox, family)
                try sandbox.state.seed(again: true)
                // Somebody lives in the namespace, or nobody could enter it.
                try ending(sandbox.condition("")) {
                    #expect(Newcomers.end(of: try shadows(sandbox)).count == 1)
                    #expect(second.remote == nil)
                    try server.send("answer", to: first.local!)
                    #expect(first.receive() == "answer")
                    #expect(Newcomers.end(of: try shadows(sandbox)).isEmpty)
                }
            }
        }

        /// The one that has a claim is not always the one that came later.
        @Test(arguments: families)
        func whoeverHasComeWithoutAClaimIsEndedToo(
            _ family: (Sandbox.Kind, String, String)
        ) throws {
            let (kind, address, _) = family
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                try sandbox.state.seed()
                let server = try sandbox.socket(kind, bound: "\(address):6000", sharing: false)
                let victim = try sandbox.socket(kind, bound: "\(address):5000")
                #expect(victim.connect("\(address):6000") == nil)
                // The guard does not see this one: as if it had got past.
                let newcomer = try sandbox.socket(
                    kind, bound: "\(address):5000", in: sandbox.outside)
                #expect(newcomer.connect("\(address):6000") == nil)
                try sandbox.state.seed(again: true)
                try ending(sandbox.condition("")) {
                    #expect(Newcomers.end(of: try shadows(sandbox)).count == 1)
                    #expect(newcomer.remote == nil)
                    try server.send("answer", to: victim.local!)
                    #expect(victim.receive() == "answer")
                }
            }
        }

        /// What strangers share among themselves nobody has asked about, least of all to end it.
        @Test(arguments: families)
        func socketsOutsideAreLeftToThemselves(
            _ family: (Sandbox.Kind, String, String)
        ) throws {
            let (kind, address, _) = family
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                // One that is guarded, so that the namespace is one where strangers matter.
                let guarded = try sandbox.socket(kind, bound: "\(address):4000")
                #expect(guarded.connect("\(address):6000") == nil)
                let strangers = try (0..<2).map { _ in
                    let stranger = try sandbox.socket(
                        kind, bound: "\(address):5000", in: sandbox.outside)
                    #expect(stranger.connect("\(address):6000") == nil)
                    return stranger
                }
                try sandbox.state.seed()
                try sandbox.state.seed(again: true)
                let namespace = try sandbox.namespaceCookie()
                #expect(
                    try sandbox.state.conflicts().filter {
                        $0.last.networkNamespace == namespace
                    }.isEmpty)
                #expect(strangers.allSatisfy { $0.remote != nil })
            }
        }

        /// Broadcast is meant to be shared: nobody has come to another's tuple.
        @Test func whoBroadcastsIsNoNewcomer() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(tableSize: 65536)
                try sandbox.state.seed()
                for _ in 0..<2 {
                    for address in ["127.0.0.1", "127.0.0.2"] {
                        let socket = try sandbox.socket(bound: "\(address):5000")
                        try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                        #expect(socket.connect("127.255.255.255:9") == nil)
                    }
                    let socket = try sandbox.socket(.v6, bound: "[::ffff:127.0.0.3]:5000")
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    #expect(socket.connect("[::ffff:127.255.255.255]:9") == nil)
                }
                try sandbox.state.seed(again: true)
                #expect(try shadows(sandbox).isEmpty)
            }
        }

        @Test func theAgentEndsNewcomersWhenItIsToldTo() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent([
                    "--on-shadow", "destroy", "--sweep-interval", "1",
                ])
                let (first, second) = try overshadow(sandbox, Self.families[0])
                #expect(eventually { second.remote == nil })
                #expect(first.remote != nil)
                #expect(eventually { agent.errorsSoFar.contains("ended a socket") })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }
    }
}
