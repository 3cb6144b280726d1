// SPDX-License-Identifier: Apache-2.0
// Which pairs of connects conflict: one test for each kind of socket and destination.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

/// All tests that need root and BPF. CI fails when they are skipped where they could run.
@Suite(.enabled(if: cannotRunBPF == nil, "\(cannotRunBPF ?? "")"))
struct IntegrationTests {}

extension IntegrationTests {
    @Suite struct Tuples {
        /// Two sockets that would hold one 4-tuple, in every mixture of families.
        struct Pair: Sendable, CustomTestStringConvertible {
            let title: String
            let first: (kind: Sandbox.Kind, name: String, peer: String, as: Int32?)
            let second: (kind: Sandbox.Kind, name: String, peer: String, as: Int32?)
            var testDescription: String { title }
        }

        static let mapped = "[::ffff:127.0.0.1]"
        static let pairs: [Pair] = [
            Pair(
                title: "IPv4", first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "IPv6", first: (.v6, "[::1]:5000", "[::1]:6000", nil),
                second: (.v6, "[::1]:5000", "[::1]:6000", nil)),
            Pair(
                title: "IPv4, then v4-mapped",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v6, "\(mapped):5000", "\(mapped):6000", nil)),
            Pair(
                title: "v4-mapped, then IPv4",
                first: (.v6, "\(mapped):5000", "\(mapped):6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "IPv6 socket with an AF_INET address, then IPv4",
                first: (.v6, "\(mapped):5000", "127.0.0.1:6000", AF_INET),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "IPv4, then IPv6 socket with an AF_INET address",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v6, "\(mapped):5000", "127.0.0.1:6000", AF_INET)),
            Pair(
                title: "wildcard, then the address that the kernel chose for it",
                first: (.v4, "0.0.0.0:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "explicit, then wildcard",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "0.0.0.0:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "wildcard twice", first: (.v4, "0.0.0.0:5000", "127.0.0.1:6000", nil),
                second: (.v4, "0.0.0.0:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "IPv6 wildcard, then IPv4", first: (.v6, "[::]:5000", "\(mapped):6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "IPv6 wildcard twice", first: (.v6, "[::]:5000", "[::1]:6000", nil),
                second: (.v6, "[::1]:5000", "[::1]:6000", nil)),
            Pair(
                title: "destination 0.0.0.0 is this host",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5000", "0.0.0.0:6000", nil)),
            Pair(
                title: "destination 0.0.0.0 from a wildcard",
                first: (.v4, "0.0.0.0:5000", "0.0.0.0:6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil)),
            Pair(
                title: "destination ::", first: (.v6, "[::1]:5000", "[::1]:6000", nil),
                second: (.v6, "[::1]:5000", "[::]:6000", nil)),
            Pair(
                title: "destination ::ffff:0.0.0.0",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v6, "\(mapped):5000", "[::ffff:0.0.0.0]:6000", nil)),
            Pair(
                title: "destination :: from a v4-mapped source",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v6, "\(mapped):5000", "[::]:6000", nil)),
        ]

        /// One guard for all pairs: the kernel takes longer to load it than all of them take.
        @Test func secondIsRefusedAndFirstReceives() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                for pair in Self.pairs {
                    let before = try sandbox.counters()
                    let a = try sandbox.socket(pair.first.kind, bound: pair.first.name)
                    let b = try sandbox.socket(pair.second.kind, bound: pair.second.name)
                    #expect(a.connect(pair.first.peer, as: pair.first.as) == nil, "\(pair.title)")
                    #expect(
                        b.connect(pair.second.peer, as: pair.second.as) == "EPERM", "\(pair.title)")
                    let peer = try sandbox.socket(
                        a.remote!.address.isIPv4 ? .v4 : .v6, bound: a.remote!.description)
                    try peer.send("for the first", to: a.local!)
                    #expect(a.receive() == "for the first", "\(pair.title)")
                    let after = try sandbox.counters()
                    #expect(after.refused == before.refused + 1, "\(pair.title)")
                    #expect(after[.claimed] == before[.claimed] + 1, "\(pair.title)")
                    sandbox.close(a)
                    #expect(b.connect(pair.second.peer, as: pair.second.as) == nil, "\(pair.title)")
                    sandbox.close(b)
                    sandbox.close(peer)
                }
            }
        }

        /// The oracle can see the fault: without a guard all of these succeed.
        @Test(arguments: pairs)
        func withoutAGuardBothConnect(_ pair: Pair) throws {
            try Sandbox.run { sandbox in
                let a = try sandbox.socket(pair.first.kind, bound: pair.first.name)
                let b = try sandbox.socket(pair.second.kind, bound: pair.second.name)
                #expect(a.connect(pair.first.peer, as: pair.first.as) == nil)
                #expect(b.connect(pair.second.peer, as: pair.second.as) == nil)
                #expect(a.local == b.local)
                #expect(a.remote == b.remote)
            }
        }

        /// Two sockets whose tuples differ, and that must both connect.
        static let compatible: [Pair] = [
            Pair(
                title: "two destinations", first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.2:6000", nil)),
            Pair(
                title: "two destination ports",
                first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5000", "127.0.0.1:6001", nil)),
            Pair(
                title: "two source addresses share one port to one destination",
                first: (.v4, "127.0.0.1:5000", "127.0.0.9:6000", nil),
                second: (.v4, "127.0.0.2:5000", "127.0.0.9:6000", nil)),
            Pair(
                title: "two source addresses, IPv4 and v4-mapped",
                first: (.v4, "127.0.0.1:5000", "127.0.0.9:6000", nil),
                second: (.v6, "[::ffff:127.0.0.2]:5000", "[::ffff:127.0.0.9]:6000", nil)),
            Pair(
                title: "an explicit address beside a wildcard that uses another",
                first: (.v4, "0.0.0.0:5000", "127.0.0.9:6000", nil),
                second: (.v4, "127.0.0.2:5000", "127.0.0.9:6000", nil)),
            Pair(
                title: "two source ports", first: (.v4, "127.0.0.1:5000", "127.0.0.1:6000", nil),
                second: (.v4, "127.0.0.1:5001", "127.0.0.1:6000", nil)),
            Pair(
                title: "multicast", first: (.v4, "127.0.0.1:5000", "224.0.0.251:5353", nil),
                second: (.v4, "127.0.0.1:5000", "224.0.0.251:5353", nil)),
        ]

        @Test func bothConnect() throws {
            try Sandbox.run { sandbox in
                try sandbox.ip("route", "add", "224.0.0.0/4", "dev", "lo")
                try sandbox.attach()
                for pair in Self.compatible {
                    let a = try sandbox.socket(pair.first.kind, bound: pair.first.name)
                    let b = try sandbox.socket(pair.second.kind, bound: pair.second.name)
                    #expect(a.connect(pair.first.peer, as: pair.first.as) == nil, "\(pair.title)")
                    #expect(b.connect(pair.second.peer, as: pair.second.as) == nil, "\(pair.title)")
                    sandbox.close(a)
                    sandbox.close(b)
                }
                #expect(try sandbox.counters().refused == 0)
            }
        }

        @Test func threeSourceAddressesShareAPortAndEachIsExact() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let sockets = try (1...3).map { try sandbox.socket(bound: "127.0.0.\($0):5000") }
                for socket in sockets { #expect(socket.connect("127.0.0.9:6000") == nil) }
                for source in 1...3 {
                    let socket = try sandbox.socket(bound: "127.0.0.\(source):5000")
                    #expect(socket.connect("127.0.0.9:6000") == "EPERM")
                }
                // By whom is known, wherever in the group that claim is; and it stays the owner's.
                #expect(try sandbox.counters()[.refusedHeld] == 3)
                for socket in sockets { #expect(socket.connect("127.0.0.9:6000") == nil) }
                #expect(try sandbox.counters()[.reclaimed] == 3)
                #expect(try sandbox.claims().count == 3)
                // A wildcard socket might get any of these addresses.
                let wildcard = try sandbox.socket(bound: "0.0.0.0:5000")
                #expect(wildcard.connect("127.0.0.9:6000") == "EPERM")
            }
        }

        @Test func subnetBroadcastIsExempt() throws {
            try Sandbox.run { sandbox in
                try sandbox.ip("addr", "add", "10.9.0.1/24", "broadcast", "10.9.0.255", "dev", "lo")
                // On lo every address of a local subnet is local; a dummy link broadcasts.
                try sandbox.ip("addr", "del", "10.9.0.1/24", "dev", "lo")
                try sandbox.ip("link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
                try sandbox.ip("link", "set", "wire0", "up")
                try sandbox.ip(
                    "addr", "add", "10.9.0.1/24", "broadcast", "10.9.0.255", "dev", "wire0")
                try sandbox.attach()
                for _ in 0..<2 {
                    let socket = try sandbox.socket(bound: "10.9.0.1:5000")
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    #expect(socket.connect("10.9.0.255:6000") == nil)
                }
                #expect(try sandbox.counters()[.exemptBroadcast] == 2)
            }
        }

        /// However many addresses the port has, whichever family the socket is, whatever failed
        /// before.
        @Test func subnetBroadcastIsAlwaysExempt() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let broadcast = "127.255.255.255:9"
                for address in ["127.0.0.1", "127.0.0.2", "127.0.0.2", "0.0.0.0"] {
                    let socket = try sandbox.socket(bound: "\(address):5000")
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    #expect(socket.connect(broadcast) == nil, "\(address)")
                }
                for _ in 0..<2 {
                    let socket = try sandbox.socket(.v6, bound: "[::ffff:127.0.0.1]:5001")
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    #expect(socket.connect("[::ffff:127.255.255.255]:9") == nil)
                }
                let without = try sandbox.socket(bound: "127.0.0.1:5002")
                #expect(without.connect(broadcast) == "EACCES")
                let with = try sandbox.socket(bound: "127.0.0.1:5002")
                try with.set(SOL_SOCKET, SO_BROADCAST, 1)
                #expect(with.connect(broadcast) == nil)
                // A unicast address is guarded, with SO_BROADCAST or without.
                for expected in [nil, "EPERM"] {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5003")
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    #expect(socket.connect("127.0.0.9:6000") == expected)
                }
            }
        }

        /// A socket of the cgroup that the look-up finds has no claim, but is no outsider.
        @Test(arguments: [(Sandbox.Kind.v4, "127.0.0.1"), (.v6, "[::1]")])
        func whoIsInsideIsNotCountedAsOutside(_ kind: Sandbox.Kind, _ address: String) throws {
            var policy = Policy()
            policy.lookUp = .on
            try Sandbox.run { sandbox in
                try sandbox.attach(policy)
                let first = try sandbox.socket(kind, sharing: false)
                #expect(first.connect("\(address):6000") == nil)
                try first.set(SOL_SOCKET, SO_REUSEADDR, 1)
                let name = "\(address):\(first.local!.port)"
                #expect(
                    try sandbox.socket(kind, bound: name).connect("\(address):6000") == "EPERM")
                let outsider = try sandbox.socket(
                    kind, bound: "\(address):5000", in: sandbox.outside)
                #expect(outsider.connect("\(address):6000") == nil)
                #expect(
                    try sandbox.socket(kind, bound: "\(address):5000").connect("\(address):6000")
                        == "EPERM")
                #expect(try sandbox.counters()[.refusedHeld] == 1)
                #expect(try sandbox.counters()[.refusedOutside] == 1)
            }
        }

        /// Nor is one of another guarded cgroup of this one.
        @Test func whoIsInsideAnotherGuardIsOutside() throws {
            var policy = Policy()
            policy.lookUp = .on
            try Sandbox.run { sandbox in
                try sandbox.attach(policy)
                try sandbox.attach(policy, to: sandbox.outside)
                let first = try sandbox.socket(in: sandbox.outside, sharing: false)
                #expect(first.connect("127.0.0.1:6000") == nil)
                try first.set(SOL_SOCKET, SO_REUSEADDR, 1)
                let second = try sandbox.socket(bound: "127.0.0.1:\(first.local!.port)")
                #expect(second.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedOutside] == 1)
            }
        }

        @Test func boundDeviceConflictsWithUnbound() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket()
                try b.bindToDevice("lo")
                try b.bind("127.0.0.1:5000")
                #expect(b.connect("127.0.0.1:6000") == nil)
                #expect(a.connect("127.0.0.1:6000") == "EPERM")
            }
        }

        @Test func networkNamespacesAreApart() throws {
            try Sandbox.run { one in
                try Sandbox.run { other in
                    try one.attach()
                    let a = try one.socket(bound: "127.0.0.1:5000")
                    let b = try one.socket(
                        bound: "127.0.0.1:5000", netns: other.networkNamespace.raw)
                    let c = try one.socket(
                        bound: "127.0.0.1:5000", netns: other.networkNamespace.raw)
                    #expect(a.connect("127.0.0.1:6000") == nil)
                    #expect(b.connect("127.0.0.1:6000") == nil)
                    #expect(c.connect("127.0.0.1:6000") == "EPERM")
                }
            }
        }

        @Test func tcpIsLeftAlone() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let server = try sandbox.socket(.tcp4, bound: "127.0.0.1:6000")
                try Errno.check { listen(server.descriptor, 8) }
                let a = try sandbox.socket(.tcp4, bound: "127.0.0.1:5000")
                let b = try sandbox.socket(.tcp4, bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EADDRNOTAVAIL")  // the kernel's own answer
                #expect(try sandbox.counters() == Counters())
            }
        }

        @Test func socketsWithoutAPortAreCounted() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.discover = .off
                try sandbox.attach(policy)
                let shared = try sandbox.socket()
                #expect(shared.connect("127.0.0.1:6000") == nil)
                let exclusive = try sandbox.socket()
                try exclusive.set(SOL_SOCKET, SO_REUSEADDR, 0)
                #expect(exclusive.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.counters()[.unresolved] == 1)
                #expect(try sandbox.counters()[.exclusivePort] == 1)
            }
        }
    }
}
