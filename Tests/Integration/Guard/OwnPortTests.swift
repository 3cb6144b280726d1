// SPDX-License-Identifier: Apache-2.0
// Ports of a cgroup's own: TCP and UDP sockets that connect without a port get one of these, each
// port serves every destination, and nobody is refused while one is free.

import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct OwnPorts {
        private static let own: ClosedRange<UInt16> = 20000...20009
        private static let count = own.count

        private func policy(_ ports: ClosedRange<UInt16>? = own) -> Policy {
            var policy = Policy()
            policy.discover = .all
            policy.ports = ports
            return policy
        }

        /// A sandbox whose guarded cgroup has ports of its own; the kernel's are others.
        private func run(_ policy: Policy? = nil, _ body: (Sandbox) throws -> Void) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                try sandbox.attach(policy ?? self.policy(), tableSize: 4096)
                try body(sandbox)
            }
        }

        /// How the client's socket is made, and where its connections go.
        struct Client: Sendable, CustomStringConvertible {
            let kind: Sandbox.Kind
            let source: String?
            let address: String

            var description: String { "\(kind) from \(source ?? "nowhere") to \(address)" }

            static let tcp: [Client] = [
                Client(kind: .tcp4, source: nil, address: "127.0.0.1"),
                Client(kind: .tcp4, source: "127.0.0.5", address: "127.0.0.1"),
                Client(kind: .tcp6, source: nil, address: "[::1]"),
                Client(kind: .tcp6, source: "[::1]", address: "[::1]"),
                Client(kind: .tcp6, source: nil, address: "[::ffff:127.0.0.1]"),
                Client(kind: .tcp6, source: "[::ffff:127.0.0.5]", address: "[::ffff:127.0.0.1]"),
            ]
            static let udp: [Client] = [
                Client(kind: .v4, source: nil, address: "127.0.0.1"),
                Client(kind: .v4, source: "127.0.0.5", address: "127.0.0.1"),
                Client(kind: .v6, source: nil, address: "[::1]"),
                Client(kind: .v6, source: "[::ffff:127.0.0.5]", address: "[::ffff:127.0.0.1]"),
            ]
        }

        /// Its socket, in the guarded cgroup unless another is given.
        private func socket(
            _ client: Client, _ sandbox: Sandbox, in cgroup: Cgroup? = nil, netns: Int32? = nil
        ) throws -> TestSocket {
            let socket = try sandbox.socket(client.kind, in: cgroup, netns: netns, sharing: false)
            if let source = client.source { try socket.bindWithoutPort(source) }
            return socket
        }

        /// A server of both families that accepts what comes when it is asked to.
        private func listen(_ sandbox: Sandbox, _ port: Int, netns: Int32? = nil) throws
            -> TestSocket
        {
            let server = try sandbox.socket(
                .tcp6, bound: "[::]:\(port)", in: sandbox.outside, netns: netns)
            try Errno.check { Glibc.listen(server.descriptor, 1000) }
            return server
        }

        /// Ports that the program may not bind to are passed over.
        @Test func privilegedPortsAreForThePrivileged() throws {
            try run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_unprivileged_port_start", "20005")
                let program = """
                    import socket
                    keep = []
                    for remote in range(6000, 6004):
                        made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
                        for s in made: s.connect(('127.0.0.1', remote))
                        keep += made
                        print(*sorted(s.getsockname()[1] for s in made))
                    """
                let outcome = try sandbox.command(
                    "/usr/bin/python3", ["-c", program], in: sandbox.cgroup, asNobody: true)
                let ports = "20005 20006 20007 20008 20009\n"
                #expect(
                    outcome.output == String(repeating: ports, count: 4), "\(outcome.errors)")
            }
        }

        /// Connects until it fails; the ports, and why no more.
        private func fill(
            _ client: Client, _ sandbox: Sandbox, _ port: Int, netns: Int32? = nil
        ) throws -> (ports: [UInt16], failure: String?) {
            var ports: [UInt16] = []
            while ports.count <= 2 * Self.count {
                let socket = try socket(client, sandbox, netns: netns)
                if let failure = socket.connect("\(client.address):\(port)") {
                    return (ports, failure)
                }
                ports.append(socket.local!.port)
            }
            return (ports, nil)
        }

        private static let first = Client.tcp[0]

        @Test(arguments: Client.tcp + Client.udp)
        func eachPortServesEachDestination(_ client: Client) throws {
            try run { sandbox in
                for port in [6000, 6001, 6002] {
                    _ = try listen(sandbox, port)
                    let (ports, failure) = try fill(client, sandbox, port)
                    #expect(ports.sorted() == Array(Self.own), "to \(port)")
                    #expect(failure == "EADDRNOTAVAIL")
                }
                let counters = try sandbox.counters()
                let isTCP = Client.tcp.contains { $0.description == client.description }
                let given = counters[isTCP ? .givenTCP : .discovered]
                #expect(given == UInt64(3 * Self.count))
                #expect(counters[isTCP ? .refusedExhaustedTCP : .refusedExhausted] == 3)
                let conflicts = try sandbox.state.conflicts().filter {
                    $0.last.guardedCgroupId == sandbox.cgroup.id
                }
                #expect(conflicts.count == 3)
                #expect(conflicts.allSatisfy { $0.last.reason == .exhausted })
            }
        }

        /// What is said where no port is left; the socket is then as it was before.
        @Test(arguments: Policy.WhenExhausted.allCases)
        func exhaustion(_ whenExhausted: Policy.WhenExhausted) throws {
            var policy = policy()
            policy.whenExhausted = whenExhausted
            try run(policy) { sandbox in
                _ = try listen(sandbox, 6000)
                _ = try listen(sandbox, 6001)
                #expect(try fill(Self.first, sandbox, 6000).failure == whenExhausted.rawValue)
                let socket = try socket(Client.tcp[1], sandbox)
                // From another address all ports are free.
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(socket.local?.description.hasPrefix("127.0.0.5:") == true)
                let refused = try self.socket(Self.first, sandbox)
                #expect(refused.connect("127.0.0.1:6000") == whenExhausted.rawValue)
                #expect(refused.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                #expect(refused.local?.port == 0)
                #expect(refused.connect("127.0.0.1:6001") == nil)
            }
        }

        /// Whoever has no ports of his own is given none of another's; outside nothing changes.
        @Test func othersKeepOut() throws {
            try run { sandbox in
                let other = try sandbox.makeSibling("other")
                try sandbox.state.attach(other, policy: policy(nil))
                // Half of the kernel's range is the guarded cgroup's own.
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "20000 20019")
                for _ in 0..<10 {
                    let socket = try socket(Client.udp[0], sandbox, in: other)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    #expect(!Self.own.contains(socket.local!.port))
                }
                let socket = try socket(Client.udp[0], sandbox, in: other)
                #expect(socket.connect("127.0.0.1:6000") == "EADDRNOTAVAIL")
                try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(Self.own.contains(socket.local!.port))
            }
        }

        /// Reserving them keeps everybody else out, and not their owner.
        @Test(arguments: [Client.tcp[0], Client.udp[0]])
        func reservedPortsAreTheOwners(_ client: Client) throws {
            try run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "20000-20009")
                _ = try listen(sandbox, 6000)
                #expect(try fill(client, sandbox, 6000).ports.sorted() == Array(Self.own))
            }
        }

        @Test func withoutOwnPortsTCPIsLeftAlone() throws {
            try run(policy(nil)) { sandbox in
                _ = try listen(sandbox, 6000)
                let socket = try socket(Self.first, sandbox)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect((40000...40099).contains(socket.local!.port))
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                let hooks = try sandbox.state.attachments()[0].programs.map(\.hook)
                #expect(Set(hooks) == Set(Hook.needed(by: Policy())))
                #expect(try sandbox.counters()[.givenTCP] == 0)
            }
        }

        /// Neither a server's port nor one that somebody has for himself is taken.
        @Test func othersOnOwnPorts() throws {
            try run { sandbox in
                _ = try listen(sandbox, 6000)
                _ = try listen(sandbox, 20003)
                let alone = try sandbox.socket(
                    .tcp4, bound: "127.0.0.1:20004", in: sandbox.outside, sharing: false)
                #expect(alone.connect("127.0.0.1:6000") == nil)
                let shared = try sandbox.socket(
                    .tcp4, bound: "127.0.0.1:20005", in: sandbox.outside)
                #expect(shared.connect("127.0.0.1:6000") == nil)
                let (ports, failure) = try fill(Self.first, sandbox, 6000)
                #expect(Set(ports) == Set(Self.own).subtracting([20003, 20004, 20005]))
                #expect(failure == "EADDRNOTAVAIL")
                // To another destination the port is as good as others.
                _ = try listen(sandbox, 6001)
                #expect(
                    Set(try fill(Self.first, sandbox, 6001).ports)
                        == Set(Self.own).subtracting([20003, 20004]))
            }
        }

        /// What is in TIME_WAIT counts as taken, or not, as net.ipv4.tcp_tw_reuse says: 2 allows it
        /// on loopback, 1 everywhere.
        @Test(arguments: [("127.0.0.1", "2"), ("10.99.0.1", "1")])
        func timeWait(_ address: String, _ setting: String) throws {
            try run { sandbox in
                try sandbox.ip("address", "add", "10.99.0.1/32", "dev", "lo")
                try sandbox.sysctl("net.ipv4.tcp_tw_reuse", "0")
                let server = try listen(sandbox, 6000)
                var used: Set<UInt16> = []
                for _ in Self.own {
                    let socket = try socket(Self.first, sandbox)
                    #expect(socket.connect("\(address):6000") == nil)
                    used.insert(socket.local!.port)
                    let accepted = accept(server.descriptor, nil, nil)
                    sandbox.close(socket)
                    Glibc.close(accepted)
                }
                #expect(used == Set(Self.own))
                let last = try socket(Self.first, sandbox)
                #expect(last.connect("\(address):6000") == "EADDRNOTAVAIL")
                try sandbox.sysctl("net.ipv4.tcp_tw_reuse", setting)
                // It has to be a second old.
                #expect(eventually { last.connect("\(address):6000") == nil })
                #expect(Self.own.contains(last.local!.port))
            }
        }

        /// A connect that fails leaves the port to the socket, and the tuple to whoever comes.
        @Test func aFailedConnect() throws {
            try run { sandbox in
                var failed: [TestSocket] = []
                for _ in 0..<3 * Self.count {
                    let socket = try socket(Self.first, sandbox)
                    #expect(socket.connect("127.0.0.1:6000") == "ECONNREFUSED")
                    failed.append(socket)
                }
                _ = try listen(sandbox, 6000)
                let port = failed[0].local!.port
                #expect(Self.own.contains(port))
                #expect(failed[0].connect("127.0.0.1:6000") == nil)
                #expect(failed[0].local?.port == port)
                let (ports, _) = try fill(Self.first, sandbox, 6000)
                #expect(Set(ports) == Set(Self.own).subtracting([port]))
            }
        }

        /// And others get it last.
        @Test func portsOfFailedConnectsAreLeftWhileOthersAreFree() throws {
            try run { sandbox in
                let failed = try (0..<5).map { _ in try socket(Self.first, sandbox) }
                for socket in failed {
                    #expect(socket.connect("127.0.0.1:6000") == "ECONNREFUSED")
                }
                let left = Set(Self.own).subtracting(failed.map { $0.local!.port })
                #expect(left.count == 5)
                _ = try listen(sandbox, 6000)
                let ports = try (0..<5).map { _ in
                    let socket = try socket(Self.first, sandbox)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket.local!.port
                }
                #expect(Set(ports) == left)
            }
        }

        @Test func whatAProgramBindsIsItsBusiness() throws {
            try run { sandbox in
                _ = try listen(sandbox, 6000)
                let socket = try sandbox.socket(.tcp4, bound: "127.0.0.1:30000", sharing: false)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(socket.local?.port == 30000)
                #expect(try sandbox.counters()[.portsBypassed] == 1)
            }
        }

        /// UDP: a bind without a port chooses among them too, whatever discovery there is.
        @Test(arguments: Policy.Discover.allCases)
        func boundDatagramSockets(_ discover: Policy.Discover) throws {
            var policy = policy()
            policy.discover = discover
            try run(policy) { sandbox in
                var ports: Set<UInt16> = []
                for _ in 0..<Self.count / 2 {
                    let bound = try sandbox.socket(bound: "127.0.0.1:0", sharing: false)
                    ports.insert(bound.local!.port)
                    let unbound = try sandbox.socket(sharing: false)
                    #expect(unbound.connect("127.0.0.1:6000") == nil)
                    ports.insert(unbound.local!.port)
                }
                #expect(ports.isSubset(of: Self.own))
                if discover != .all { #expect(ports.count == Self.count) }
            }
        }

        @Test func socketsOfOneDevice() throws {
            try run { sandbox in
                _ = try listen(sandbox, 6000)
                var ports: Set<UInt16> = []
                for _ in Self.own {
                    let socket = try socket(Self.first, sandbox)
                    try socket.bindToDevice("lo")
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    ports.insert(socket.local!.port)
                }
                #expect(ports == Set(Self.own))
            }
        }

        /// IP_LOCAL_PORT_RANGE (51), which Debian's 6.1 has too.
        @Test(arguments: [Client.tcp[0], Client.udp[0]])
        func aSocketsOwnRange(_ client: Client) throws {
            try run { sandbox in
                _ = try listen(sandbox, 6000)
                func limited(_ first: Int32, _ last: Int32) throws -> TestSocket {
                    let socket = try socket(client, sandbox)
                    try socket.set(Int32(IPPROTO_IP), 51, last << 16 | first)
                    return socket
                }
                guard (try? limited(20003, 20004)) != nil else { return }
                var ports: Set<UInt16> = []
                for _ in 0..<2 {
                    let socket = try limited(20003, 30000)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    ports.insert(socket.local!.port)
                }
                #expect(ports.allSatisfy { (20003...20009).contains($0) })
                let nowhere = try limited(30000, 30009)
                #expect(nowhere.connect("127.0.0.1:6000") == "EADDRNOTAVAIL")
            }
        }

        /// Each network namespace has ports of its own.
        @Test(arguments: [Client.tcp[0], Client.udp[0]])
        func namespaces(_ client: Client) throws {
            try Sandbox.runTwo { sandbox, other in
                try sandbox.attach(policy(), tableSize: 4096)
                for netns in [sandbox.networkNamespace.raw, other.networkNamespace.raw] {
                    _ = try listen(sandbox, 6000, netns: netns)
                    #expect(
                        try fill(client, sandbox, 6000, netns: netns).ports.sorted()
                            == Array(Self.own))
                }
            }
        }

        @Test func theInnermostRangeCounts() throws {
            try run { sandbox in
                let child = try sandbox.makeChild("child")
                try sandbox.state.attach(child, policy: policy(20010...20019))
                _ = try listen(sandbox, 6000)
                for client in [Client.tcp[0], Client.udp[0]] {
                    let inner = try socket(client, sandbox, in: child)
                    #expect(inner.connect("127.0.0.1:6000") == nil)
                    #expect((20010...20019).contains(inner.local!.port))
                    let outer = try socket(client, sandbox)
                    #expect(outer.connect("127.0.0.1:6000") == nil)
                    #expect(Self.own.contains(outer.local!.port))
                }
                // Neither program has bound its socket itself.
                #expect(try sandbox.counters()[.portsBypassed] == 0)
            }
        }

        /// A guard below that has no ports of its own takes none from elsewhere, whichever of the
        /// two came first.
        @Test(arguments: [true, false])
        func whoIsBelowHasThem(_ parentFirst: Bool) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                let child = try sandbox.makeChild("child")
                func attachParent() throws { try sandbox.attach(policy(), tableSize: 4096) }
                func attachChild() throws {
                    try sandbox.attach(policy(nil), to: child, tableSize: 4096)
                }
                if parentFirst { try attachParent() }
                try attachChild()
                if !parentFirst { try attachParent() }
                _ = try listen(sandbox, 6000)
                func ports() throws -> [UInt16] {
                    let clients = [Client.tcp[0], Client.udp[0], Client.udp[1], Client.udp[2]]
                    return try clients.map { client in
                        let socket = try socket(client, sandbox, in: child)
                        let refused = socket.connect("\(client.address):6000")
                        #expect(refused == nil, "\(client)")
                        return socket.local!.port
                    } + [sandbox.socket(.v4, bound: "127.0.0.1:0", in: child).local!.port]
                }
                #expect(try ports().allSatisfy { Self.own.contains($0) })
                try sandbox.state.attach(
                    sandbox.cgroup, policy: policy(20010...20019), replacing: true)
                #expect(try ports().allSatisfy { (20010...20019).contains($0) })
                try sandbox.state.attach(
                    sandbox.cgroup, policy: policy(nil), replacing: true)
                #expect(try ports().allSatisfy { (40000...40099).contains($0) })
            }
        }

        @Test func overlapsAreRefused() throws {
            try run { sandbox in
                let state = sandbox.state
                func overlaps(_ ports: ClosedRange<UInt16>) -> GuardError {
                    .portsTaken(asked: ports, path: sandbox.cgroup.path, has: Self.own)
                }
                for ports: ClosedRange<UInt16> in [
                    19000...20000, 20009...20009, 1...65535, 20002...20003,
                ] {
                    #expect(throws: overlaps(ports)) {
                        try state.attach(sandbox.outside, policy: policy(ports))
                    }
                }
                try state.attach(sandbox.outside, policy: policy(20010...20019))
                #expect(throws: overlaps(20005...20019)) {
                    try state.attach(
                        sandbox.outside, policy: policy(20005...20019), replacing: true)
                }
                #expect(
                    try state.attachments().first { $0.id == sandbox.outside.id }?.policy.ports
                        == 20010...20019)
                let outcome = try sandbox.tupleguard(
                    "attach", "--replace", "--ports", "20000-20010", sandbox.cgroup.folder)
                #expect(outcome.status != 0)
                #expect(outcome.errors.contains("20010-20019"), "\(outcome.errors)")
                try state.detach(sandbox.outside.id, path: sandbox.outside.path)
                let again = try sandbox.tupleguard(
                    "attach", "--replace", "--ports", "20000-20010", sandbox.cgroup.folder)
                #expect(again.status == 0, "\(again.errors)")
                let status = try sandbox.tupleguard("status", "--json")
                #expect(
                    status.output.contains(#""ports":{"first":20000,"last":20010,"#),
                    "\(status.output)")
                #expect(try sandbox.tupleguard("status").output.contains("20000-20010"))
            }
        }

        /// `status` and the metrics show one figure: what the busiest destination has, and of UDP
        /// sockets that share none all of them.
        @Test(arguments: [Policy.Discover.all, .reuseaddr])
        func theCommandTellsWhatIsUsed(_ discover: Policy.Discover) throws {
            // No other test's or oracle's: the command looks at all network namespaces.
            let range: ClosedRange<UInt16> = discover == .all ? 3450...3459 : 3460...3469
            var policy = policy(range)
            policy.discover = discover
            try run(policy) { sandbox in
                for (port, count) in [(6000, 4), (6001, 3)] {
                    _ = try listen(sandbox, port)
                    for _ in 0..<count {
                        let socket = try socket(Self.first, sandbox)
                        #expect(socket.connect("127.0.0.1:\(port)") == nil)
                    }
                }
                for port in 6000..<6005 {
                    let socket = try socket(Client.udp[0], sandbox)
                    #expect(socket.connect("127.0.0.1:\(port)") == nil)
                }
                let (tcp, udp) = (4, discover == .all ? 1 : 5)
                let status = try sandbox.tupleguard("status", "--json").json
                let guarded = (status["guarded"] as? [JSONObject])?.first
                let ports = guarded?["ports"] as? JSONObject
                #expect(ports?["used"] as? [String: Int] == ["tcp": tcp, "udp": udp])
                let text = try sandbox.tupleguard("status").output
                #expect(text.contains("\(tcp) of 10 (\(tcp)0%)"), "\(text)")
                #expect(text.contains("\(udp) of 10 (\(udp)0%)"), "\(text)")
                let metrics = try sandbox.tupleguard("metrics").output
                for (name, used) in [("tcp", tcp), ("udp", udp)] {
                    let labels = "cgroup=\"\(sandbox.cgroup.path)\",protocol=\"\(name)\""
                    #expect(metrics.contains("tupleguard_own_ports_used{\(labels)} \(used)\n"))
                }
            }
        }

        /// What is open stays, and what comes is given the new ones.
        @Test func anotherRange() throws {
            try run { sandbox in
                _ = try listen(sandbox, 6000)
                let before = try socket(Self.first, sandbox)
                #expect(before.connect("127.0.0.1:6000") == nil)
                try sandbox.state.attach(
                    sandbox.cgroup, policy: policy(21000...21009), replacing: true)
                let after = try socket(Self.first, sandbox)
                #expect(after.connect("127.0.0.1:6000") == nil)
                #expect((21000...21009).contains(after.local!.port))
                #expect(Self.own.contains(before.local!.port))
                #expect(before.remote?.port == 6000)
                try sandbox.state.attach(sandbox.cgroup, policy: policy(nil), replacing: true)
                let bare = try socket(Self.first, sandbox)
                #expect(bare.connect("127.0.0.1:6000") == nil)
                #expect((40000...40099).contains(bare.local!.port))
                try sandbox.state.attach(sandbox.cgroup, policy: policy(), replacing: true)
                #expect(try fill(Self.first, sandbox, 6000).ports.count == Self.count - 1)
            }
        }

        /// Two cgroups with neighbouring ranges, as busy as they can be, each with an oracle.
        @Test func nobodyIsRefusedWhileAPortIsFree() throws {
            try Sandbox.run { sandbox in
                let ranges = [sandbox.cgroup: "20000-20015", sandbox.outside: "20016-20031"]
                for (cgroup, range) in ranges {
                    let outcome = try sandbox.tupleguard(
                        "attach", "--discover", "all", "--ports", range, cgroup.folder)
                    #expect(outcome.status == 0, "\(outcome.errors)")
                }
                let programs = try ranges.map { cgroup, range in
                    try sandbox.start(
                        Sandbox.program("tupleguard-stress"),
                        ["ports", "--ports", range, "--seconds", "3"], in: cgroup)
                }
                for program in programs {
                    let outcome = program.wait()
                    #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
                }
                for cgroup in ranges.keys {
                    #expect(try sandbox.state.counters(of: cgroup.id)[.givenTCP] > 0)
                }
            }
        }
    }
}
