// SPDX-License-Identifier: Apache-2.0
// Port discovery: programs that connect without a port share ports, exactly and safely.

import Foundation
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Discovery {
        /// IP_LOCAL_PORT_RANGE, which Glibc does not name yet.
        private static let localPortRange: Int32 = 51
        private static let firstPort = 40000

        private func policy(_ discover: Policy.Discover) -> Policy {
            var policy = Policy()
            policy.discover = discover
            return policy
        }

        /// A sandbox with few local ports and a guard that discovers.
        private func run(
            _ discover: Policy.Discover = .all, ports: Int = 10,
            _ body: (Sandbox) throws -> Void
        ) throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, ports)
                try sandbox.attach(policy(discover), tableSize: 4096)
                try body(sandbox)
            }
        }

        private func setPorts(_ sandbox: Sandbox, _ count: Int, from first: Int = firstPort) throws
        {
            try sandbox.sysctl(
                "net.ipv4.ip_local_port_range", "\(first) \(first + count - 1)")
        }

        /// Connects sockets without a port until it fails; their ports, and why no more.
        private func fill(
            _ sandbox: Sandbox, _ destination: String, sharing: Bool = false,
            from source: String? = nil
        ) throws -> (ports: [Int], failure: String?) {
            var ports: [Int] = []
            while true {
                let socket = try sandbox.socket(
                    destination.hasPrefix("[") ? .v6 : .v4, sharing: sharing)
                if let source { try socket.bindWithoutPort(source) }
                if let failure = socket.connect(destination) { return (ports, failure) }
                ports.append(Int(socket.local!.port))
                guard ports.count < 1000 else { return (ports, nil) }
            }
        }

        private func ports(_ count: Int, from first: Int = firstPort) -> [Int] {
            Array(first..<first + count)
        }

        // MARK: - Programs that know nothing of it

        struct Dialed: Decodable {
            let distinct: Int
            let same: Int
            let echoed: Int
            let again: Int
            let ports: [Int]
            let errors: [String: Int]
        }

        private func dial(
            _ sandbox: Sandbox, _ arguments: [String], asNobody: Bool = false
        ) throws -> Dialed {
            let outcome = try sandbox.command(
                Sandbox.program("tupleguard-dialer"), arguments, in: sandbox.cgroup,
                asNobody: asNobody)
            #expect(outcome.status == 0, "\(outcome.errors)")
            return try JSONDecoder().decode(Dialed.self, from: Data(outcome.output.utf8))
        }

        @Test(arguments: [
            "", "--family 6", "--family mapped", "--family mixed",
            "--source 127.0.0.3", "--family 6 --source ::1",
            "--family mapped --source ::ffff:127.0.0.3", "--family mixed --source ::ffff:127.0.0.3",
            "--share",
        ])
        func aProgramSharesTenPorts(_ options: String) throws {
            try run { sandbox in
                let dialed = try dial(sandbox, options.split(separator: " ").map(String.init))
                #expect(dialed.distinct == 300)
                #expect(dialed.same == 10)
                #expect(dialed.echoed == 311)
                #expect(dialed.again == 1)
                #expect(dialed.ports == ports(10))
                #expect(dialed.errors == ["EADDRNOTAVAIL": 10])
                let counters = try sandbox.counters()
                #expect(counters[.discovered] == 311)
                #expect(counters[.refusedExhausted] == 10)
                #expect(counters.refused == 10)
                let histogram = Counter.allCases.filter { $0.kind == .histogram }
                #expect(histogram.reduce(0) { $0 + counters[$1] } == 311)
            }
        }

        @Test func withReuseaddrProgramsThatShareShareTenPorts() throws {
            try run(.reuseaddr) { sandbox in
                let sharing = try dial(sandbox, ["--share"])
                #expect(sharing.distinct == 300)
                #expect(sharing.same == 10)
                #expect(sharing.echoed == 311)
                #expect(sharing.errors == ["EADDRNOTAVAIL": 10])
            }
        }

        /// What the tests above hold against: the kernel alone, and SO_REUSEADDR without a guard.
        @Test func withoutDiscoveryTenSocketsAreAllOrAnswersGoAstray() throws {
            try run(.off) { sandbox in
                let alone = try dial(sandbox, [])
                #expect(alone.distinct == 10)
                #expect(alone.same == 0)
                #expect(alone.errors == ["EAGAIN": 310])
                let sharing = try dial(sandbox, ["--share"])
                #expect(sharing.distinct == 300)
                #expect(sharing.same == 20)
                #expect(sharing.echoed < 321)
                #expect(try sandbox.counters()[.exclusivePort] == 320)
            }
            try run(.reuseaddr) { sandbox in
                let alone = try dial(sandbox, [])
                #expect(alone.distinct == 10)
                #expect(alone.same == 0)
            }
        }

        private static let python = """
            import errno, socket, sys
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("127.0.0.1", 9000))
            def dial(destination):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                client.connect(destination)
                return client
            clients, refusals = [], []
            for number in range(300):
                clients.append(dial(("127.0.%d.%d" % (1 + number // 100, number % 100), 9000)))
            same = []
            for number in range(20):
                try:
                    same.append(dial(("127.0.0.1", 9000)))
                except OSError as error:
                    refusals.append(errno.errorcode[error.errno])
            echoed = 0
            for number, client in enumerate(same):
                client.send(b"%d" % number)
                server.sendto(*server.recvfrom(100))
                client.settimeout(5)
                echoed += client.recv(100) == b"%d" % number
            print(len(clients), len(same), echoed, set(refusals))
            """

        @Test func unmodifiedPython() throws {
            try run { sandbox in
                let outcome = try sandbox.command(
                    "/usr/bin/python3", ["-c", Self.python], in: sandbox.cgroup)
                #expect(outcome.output == "300 10 10 {'EADDRNOTAVAIL'}\n", "\(outcome.errors)")
            }
        }

        /// Answers every DNS query with 192.0.2.1; says "up" when it listens.
        private static let nameServer = """
            import socket, struct
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("127.0.0.1", 53))
            print("up", flush=True)
            while True:
                query, client = server.recvfrom(4096)
                end = query.index(0, 12) + 5
                address = struct.pack(">HHHIH4B", 0xc00c, 1, 1, 60, 4, 192, 0, 2, 1)
                is_a = query[end - 4:end - 2] == bytes([0, 1])
                head = query[:2] + struct.pack(">5H", 0x8180, 1, int(is_a), 0, 0)
                server.sendto(head + query[12:end] + (address if is_a else b""), client)
            """

        private func withNameServer(_ sandbox: Sandbox, _ body: () throws -> Void) throws {
            let server = try sandbox.start("/usr/bin/python3", ["-c", Self.nameServer])
            defer {
                server.signal(SIGKILL)
                _ = server.wait()
            }
            try #require(eventually { server.outputSoFar.contains("up") })
            try body()
        }

        /// A shell command that sees these as /etc/hosts and /etc/resolv.conf.
        private func resolving(
            _ sandbox: Sandbox, _ command: String, hosts: String = "127.0.0.1 localhost"
        ) throws -> Sandbox.Outcome {
            let script = """
                mount -t tmpfs none /mnt && printf '\(hosts)\\n' >/mnt/hosts &&
                echo 'nameserver 127.0.0.1' >/mnt/resolv.conf &&
                echo 'hosts: files dns' >/mnt/nsswitch.conf &&
                mount --bind /mnt/hosts /etc/hosts &&
                mount --bind /mnt/resolv.conf /etc/resolv.conf &&
                mount --bind /mnt/nsswitch.conf /etc/nsswitch.conf && \(command)
                """
            return try sandbox.command(
                "/usr/bin/unshare", ["--mount", "/bin/sh", "-c", script], in: sandbox.cgroup)
        }

        /// glibc's resolver connects without a port, for every query.
        @Test func theResolverAsksFromADiscoveredPort() throws {
            try run(ports: 2) { sandbox in
                // Two sockets to elsewhere: without sharing there would be no port left.
                #expect(try fill(sandbox, "127.0.0.1:6000").ports.count == 2)
                try withNameServer(sandbox) {
                    let before = try sandbox.counters()[.discovered]
                    let outcome = try resolving(sandbox, "getent hosts www.example.com")
                    #expect(outcome.output.contains("192.0.2.1"), "\(outcome.errors)")
                    #expect(try sandbox.counters()[.discovered] > before)
                }
            }
        }

        /// dig binds to a port first, so there is nothing to discover; it has to work all the same.
        @Test func digGetsItsAnswers() throws {
            try run(.all, ports: 20) { sandbox in
                let others = try (0..<10).map { _ in
                    let socket = try sandbox.socket(sharing: false)
                    #expect(socket.connect("127.0.0.1:53") == nil)
                    return socket
                }
                #expect(Set(others.map { $0.local!.port }).count == 10)
                try withNameServer(sandbox) {
                    for _ in 0..<5 {
                        let dig = try sandbox.command(
                            "/usr/bin/dig",
                            ["+short", "+tries=1", "@127.0.0.1", "www.example.com"],
                            in: sandbox.cgroup)
                        #expect(dig.output == "192.0.2.1\n", "\(dig.output)\(dig.errors)")
                    }
                }
                #expect(try sandbox.counters()[.discovered] == 10)
            }
        }

        /// getaddrinfo connects one socket to each address in turn, to sort them by their source.
        @Test func getaddrinfoSortsAsEver() throws {
            let hosts = """
                10.5.0.9 many.test\\n10.5.0.1 many.test\\n10.5.0.2 many.test\\nfd05::1 many.test
                """
            let command = """
                python3 -c 'import socket
                for name in socket.getaddrinfo("many.test", 6000, type=socket.SOCK_DGRAM):
                    print(name[4][0])'
                """
            var orders: [String] = []
            for discover in [Policy.Discover.off, .all] {
                try run(discover, ports: 3) { sandbox in
                    for address in ["10.5.0.1/32", "10.5.0.2/32", "fd05::1/128"] {
                        try sandbox.ip("addr", "add", address, "dev", "lo", "nodad")
                    }
                    let outcome = try resolving(sandbox, command, hosts: hosts)
                    #expect(
                        outcome.output.split(separator: "\n").sorted()
                            == ["10.5.0.1", "10.5.0.2", "10.5.0.9", "fd05::1"],
                        "\(outcome.errors)")
                    orders.append(outcome.output)
                    let discovered = try sandbox.counters()[.discovered]
                    #expect((discovered > 0) == (discover == .all))
                    // Addresses without a free port are still given.
                    #expect(try discover == .off || fill(sandbox, "10.5.0.2:6000").ports.count == 3)
                    let full = try resolving(sandbox, command, hosts: hosts)
                    #expect(full.output.split(separator: "\n").count == 4, "\(full.errors)")
                }
            }
            #expect(orders[0] == orders[1])
        }

        /// openssl's DTLS client connects without a port and says hello.
        @Test func dtlsClientsShareThePorts() throws {
            try run(ports: 4) { sandbox in
                let servers = try (0..<6).map { number in
                    try sandbox.socket(
                        bound: "127.0.0.1:\(9000 + number)", in: sandbox.outside, sharing: false)
                }
                func client(to port: Int) throws -> RunningProgram {
                    try sandbox.start(
                        "/usr/bin/openssl", ["s_client", "-dtls", "-connect", "127.0.0.1:\(port)"],
                        in: sandbox.cgroup)
                }
                let clients = try (0..<6).map { try client(to: 9000 + $0) }
                for server in servers { #expect(server.receive(waiting: 20_000) != nil) }
                // One has a port to the first destination already.
                let more = try (0..<5).map { _ in try client(to: 9000) }
                #expect(eventually { more.count { !$0.isRunning } == 2 })
                #expect(try sandbox.counters()[.refusedExhausted] == 2)
                #expect(try sandbox.counters()[.discovered] == 9)
                for client in clients + more {
                    client.signal(SIGKILL)
                    _ = client.wait()
                }
            }
        }

        // MARK: - Which ports

        /// Others need ports too, and cannot share.
        @Test(arguments: ["4", "6"]) func manyDestinationsLeavePortsToOthers(
            _ family: String
        ) throws {
            try run(ports: 200) { sandbox in
                let dialed = try dial(
                    sandbox, ["--family", family, "--distinct", "900", "--same", "1"])
                #expect(dialed.distinct == 900)
                #expect(dialed.ports.allSatisfy { $0 >= Self.firstPort + 50 })
            }
        }

        /// One destination after the other, with one socket: getaddrinfo compares routes so. The
        /// guard chose its port, so it must not be in the way.
        @Test(arguments: [
            (Sandbox.Kind.v4, "127.0.0.1:9", "127.0.0.2:6000"), (.v6, "[::1]:9", "[::1]:6000"),
        ])
        func whoComparesRoutesIsNotRefused(
            _ kind: Sandbox.Kind, _ first: String, _ busy: String
        ) throws {
            try run(ports: 800) { sandbox in
                for _ in 0..<200 {
                    #expect(try sandbox.socket(kind, sharing: false).connect(busy) == nil)
                }
                for _ in 0..<100 {
                    let socket = try sandbox.socket(kind, sharing: false)
                    #expect(socket.connect(first) == nil)
                    try socket.disconnect()
                    #expect(socket.connect(busy) == nil)
                    sandbox.close(socket)
                }
            }
        }

        @Test(arguments: [Policy.Discover.all, .reuseaddr])
        func reservedPortsAreLeftOut(_ discover: Policy.Discover) throws {
            try run(discover) { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "40000,40003-40005")
                let filled = try fill(sandbox, "127.0.0.1:6000", sharing: discover == .reuseaddr)
                #expect(filled.ports.sorted() == [40001, 40002, 40006, 40007, 40008, 40009])
                #expect(filled.failure == "EADDRNOTAVAIL")
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "")
                let more = try fill(sandbox, "127.0.0.1:6000", sharing: discover == .reuseaddr)
                #expect(more.ports.sorted() == [40000, 40003, 40004, 40005])
            }
        }

        @Test func aChangedRangeCountsAtOnceAndInEachNamespace() throws {
            try run { sandbox in
                #expect(try fill(sandbox, "127.0.0.1:6000").ports.sorted() == ports(10))
                try setPorts(sandbox, 4, from: 50000)
                let changed = try fill(sandbox, "127.0.0.1:6000")
                #expect(changed.ports.sorted() == ports(4, from: 50000))
                // One that came into being after the guard was attached.
                try Sandbox.run { other in
                    let fresh = try sandbox.socket(
                        netns: other.networkNamespace.raw, sharing: false)
                    #expect(fresh.connect("127.0.0.1:6000") == nil)
                    #expect((32768...60999).contains(fresh.local!.port))
                    try setPorts(other, 1, from: 51000)
                    let next = try sandbox.socket(netns: other.networkNamespace.raw, sharing: false)
                    #expect(next.connect("127.0.0.1:6000") == nil)
                    #expect(next.local!.port == 51000)
                }
            }
        }

        /// As the kernel has it: each end counts if it is inside the namespace's range.
        @Test(
            arguments: [
                (40002, 40004, [40002, 40003, 40004]), (40008, 0, [40008, 40009]),
                (0, 40001, [40000, 40001]), (30000, 40001, [40000, 40001]),
                (40009, 50000, [40009]),
            ])
        func theSocketsOwnRange(first: Int, last: Int, expected: [Int]) throws {
            try run { sandbox in
                var found: [Int] = []
                while true {
                    let socket = try sandbox.socket(sharing: false)
                    let range = UInt32(last) << 16 | UInt32(first)
                    do {
                        try socket.set(
                            Int32(IPPROTO_IP), Self.localPortRange, Int32(bitPattern: range))
                    } catch let error as Errno where error.number == ENOPROTOOPT {
                        try Test.cancel("this kernel has no IP_LOCAL_PORT_RANGE")
                    }
                    guard socket.connect("127.0.0.1:6000") == nil else { break }
                    found.append(Int(socket.local!.port))
                }
                #expect(found.sorted() == expected)
            }
        }

        @Test func aPortOfASocketThatDoesNotShareIsNeverTaken() throws {
            try run { sandbox in
                for port in [40000, 40004, 40007] {
                    // In the cgroup or not, on any address or another than ours.
                    let socket = try sandbox.socket(
                        in: port == 40000 ? sandbox.outside : nil, sharing: false)
                    try socket.bind("\(port == 40004 ? "127.0.0.1" : "0.0.0.0"):\(port)")
                }
                let filled = try fill(sandbox, "127.0.0.1:6000")
                #expect(
                    filled.ports.sorted() == [40001, 40002, 40003, 40005, 40006, 40008, 40009])
                #expect(filled.failure == "EADDRNOTAVAIL")
                #expect(try sandbox.claims().count == 7)
            }
        }

        /// The kernel keeps the range above what needs the capability, and so is discovery.
        @Test func noPortBelowWhatTheProgramMayBind() throws {
            try run { sandbox in
                #expect(throws: GuardError.self) { try setPorts(sandbox, 10, from: 1020) }
                try sandbox.sysctl("net.ipv4.ip_unprivileged_port_start", "1005")
                try setPorts(sandbox, 10, from: 1005)
                let dialed = try dial(sandbox, [], asNobody: true)
                #expect(dialed.ports == ports(10, from: 1005))
                #expect(dialed.same == 10)
            }
        }

        /// Where no port can be chosen at all the connect is the kernel's to refuse, unless the
        /// policy is strict.
        @Test(arguments: [false, true])
        func aSocketWhoseAddressIsGone(_ isStrict: Bool) throws {
            var policy = policy(.all)
            policy.isStrict = isStrict
            try Sandbox.run { sandbox in
                try sandbox.attach(policy, tableSize: 4096)
                try sandbox.ip("address", "add", "10.99.0.1/32", "dev", "lo")
                let socket = try sandbox.socket()
                try socket.bindWithoutPort("10.99.0.1")
                try sandbox.ip("address", "del", "10.99.0.1/32", "dev", "lo")
                let error = try #require(socket.connect("127.0.0.1:6000"))
                #expect((error == "EPERM") == isStrict, "\(error)")
                #expect(try sandbox.counters()[.undiscoverable] == 1)
            }
        }

        @Test func aDefaultRangeIsUsedWidely() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(policy(.all), tableSize: 4096)
                var ports: Set<UInt16> = []
                for _ in 0..<200 {
                    let socket = try sandbox.socket(sharing: false)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    ports.insert(socket.local!.port)
                }
                #expect(ports.count == 200)
                #expect(ports.allSatisfy { (32768...60999).contains($0) })
                // Random ones are spread over all that is not left to others.
                #expect(ports.allSatisfy { $0 >= 32768 + 7058 })
                for quarter in stride(from: 32768 + 7058, to: 60999, by: 7058) {
                    #expect(ports.contains { (quarter..<quarter + 7058).contains(Int($0)) })
                }
            }
        }

        // MARK: - Beside other sockets

        @Test func sourceAddressesShareAPortWhereTheyAreKnown() throws {
            try run { sandbox in
                for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
                    let filled = try fill(sandbox, "127.0.0.9:6000", from: source)
                    #expect(filled.ports.sorted() == ports(10))
                    #expect(filled.failure == "EADDRNOTAVAIL")
                }
                // Whichever address it came to have, there is a socket with it.
                #expect(try fill(sandbox, "127.0.0.9:6000").ports.isEmpty)
                #expect(try fill(sandbox, "127.0.0.9:6001").ports.count == 10)
            }
        }

        @Test func aWildcardAvoidsPortsWithAnyClaim() throws {
            try run(ports: 3) { sandbox in
                let explicit = try sandbox.socket(bound: "127.0.0.5:40001")
                #expect(explicit.connect("127.0.0.1:6000") == nil)
                let filled = try fill(sandbox, "127.0.0.1:6000")
                #expect(filled.ports.sorted() == [40000, 40002])
                // And the other way round.
                for (port, outcome) in [(40000, "EPERM"), (40001, nil), (40002, "EPERM")] {
                    let late = try sandbox.socket(bound: "127.0.0.1:\(port)")
                    #expect(late.connect("127.0.0.1:6000") == outcome)
                }
            }
        }

        /// A wildcard is seen to use another address: then a known one need not stay away.
        @Test func aKnownSourceFindsRoomBesideWildcards() throws {
            try run { sandbox in
                #expect(try fill(sandbox, "127.0.0.9:6000").ports.count == 10)
                let other = try fill(sandbox, "127.0.0.9:6000", from: "127.0.0.2")
                #expect(other.ports.sorted() == ports(10))
                #expect(try fill(sandbox, "127.0.0.9:6000", from: "127.0.0.1").ports.isEmpty)
            }
        }

        @Test func familiesAvoidEachOther() throws {
            try run(ports: 4) { sandbox in
                let v4 = try sandbox.socket(.v4, sharing: false)
                let mapped = try sandbox.socket(.v6, sharing: false)
                let mixed = try sandbox.socket(.v6, sharing: false)
                #expect(v4.connect("127.0.0.1:6000") == nil)
                #expect(mapped.connect("[::ffff:127.0.0.1]:6000") == nil)
                #expect(mixed.connect("127.0.0.1:6000", as: AF_INET) == nil)
                #expect(Set([v4, mapped, mixed].map { $0.local!.port }).count == 3)
                #expect(try fill(sandbox, "127.0.0.1:6000").ports.count == 1)
                #expect(try fill(sandbox, "[::1]:6000").ports.count == 4)
            }
        }

        /// A claim whose socket disconnected is no reason to be without a port, once it is old.
        @Test func staleClaimsMakeWay() throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, 3)
                var policy = policy(.all)
                policy.graceNanoseconds = 1_000_000
                try sandbox.attach(policy)
                for port in ports(3) {
                    let socket = try sandbox.socket(bound: "127.0.0.1:\(port)")
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    try socket.disconnect()
                }
                usleep(50_000)
                #expect(try fill(sandbox, "127.0.0.1:6000").ports.sorted() == ports(3))
                #expect(try sandbox.counters()[.takenOver] == 3)
            }
        }

        /// So many ports that a destination with all of them taken gets a bitmap.
        @Test(arguments: [nil, "127.0.0.1"])
        func theOneFreePortOfManyIsFound(source: String?) throws {
            try run(ports: 400) { sandbox in
                func connected() throws -> TestSocket? {
                    let socket = try sandbox.socket(sharing: false)
                    if let source { try socket.bindWithoutPort(source) }
                    if socket.connect("127.0.0.1:6000") == nil { return socket }
                    sandbox.close(socket)
                    return nil
                }
                var sockets: [TestSocket] = []
                while let socket = try connected() { sockets.append(socket) }
                #expect(sockets.count == 400)
                for index in stride(from: 0, to: 400, by: 7) {
                    let port = sockets[index].local!.port
                    sandbox.close(sockets[index])
                    sockets[index] = try #require(try connected())
                    #expect(sockets[index].local!.port == port)
                    #expect(try connected() == nil)
                }
            }
        }

        /// Takes every port of several destinations, gives one of each back, and connects again.
        private static let fillMany = """
            import resource, socket, sys
            ports, destinations = int(sys.argv[1]), int(sys.argv[2])
            resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
            def dial(number):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                try:
                    client.connect(("127.0.0.1", 6000 + number))
                    return client
                except OSError:
                    client.close()
            held = [[dial(number) for _ in range(ports)] for number in range(destinations)]
            connected = sum(client is not None for clients in held for client in clients)
            beyond = [dial(number) for number in range(destinations)]
            for clients in held: clients.pop(ports // 2).close()
            again = [dial(number) for number in range(destinations)]
            print(connected, destinations - beyond.count(None), destinations - again.count(None))
            """

        /// Thousands for one destination, which only a bitmap finds; and so many destinations at
        /// once that some share a set of bitmaps.
        @Test(arguments: [(5000, 1), (380, 40)])
        func noPortIsOverlooked(_ ports: Int, _ destinations: Int) throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, ports)
                try sandbox.attach(policy(.all), tableSize: 65536)
                let outcome = try sandbox.command(
                    "/usr/bin/python3", ["-c", Self.fillMany, "\(ports)", "\(destinations)"],
                    in: sandbox.cgroup)
                #expect(
                    outcome.output == "\(ports * destinations) 0 \(destinations)\n",
                    "\(outcome.errors)")
            }
        }

        /// Each connect doubts some claims, and goes on where the one before stopped.
        @Test func staleClaimsAmongManyMakeWayInTheEnd() throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, 400)
                var policy = policy(.all)
                policy.graceNanoseconds = 1_000_000
                try sandbox.attach(policy)
                let holders = try (0..<400).map { _ in
                    let socket = try sandbox.socket(sharing: false)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                let before = try sandbox.counters()[.takenOver]
                try holders[123].disconnect()
                usleep(50_000)
                var attempts = 0
                while try fill(sandbox, "127.0.0.1:6000").ports.isEmpty && attempts < 20 {
                    attempts += 1
                }
                #expect(attempts < 14)
                #expect(try sandbox.counters()[.takenOver] == before + 1)
            }
        }

        @Test func socketsOutsideTheCgroupAreAvoidedWhereTheyAreLookedFor() throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, 3)
                var policy = policy(.all)
                policy.lookUp = .on
                try sandbox.attach(policy)
                let outsider = try sandbox.socket(bound: "127.0.0.1:40001", in: sandbox.outside)
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                let filled = try fill(sandbox, "127.0.0.1:6000", from: "127.0.0.1")
                #expect(filled.ports.sorted() == [40000, 40002])
            }
        }

        // MARK: - What a program sees

        @Test(arguments: Policy.WhenExhausted.allCases)
        func aFullDestinationFailsAsThePolicySaysAndChangesNothing(
            _ whenExhausted: Policy.WhenExhausted
        ) throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, 4)
                var policy = policy(.all)
                policy.whenExhausted = whenExhausted
                try sandbox.attach(policy)
                let blocker = try sandbox.socket(sharing: false)
                try blocker.bind("0.0.0.0:40000")
                #expect(try fill(sandbox, "127.0.0.1:6000").ports.count == 3)
                let socket = try sandbox.socket(sharing: false)
                try socket.bindWithoutPort("127.0.0.1")
                #expect(socket.connect("127.0.0.1:6000") == whenExhausted.rawValue)
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                #expect(socket.local == Endpoint("127.0.0.1:0"))
                // It can go elsewhere.
                #expect(socket.connect("127.0.0.1:6001") == nil)
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 1)
                #expect(socket.local!.address == IPAddress("127.0.0.1"))
            }
        }

        @Test func exhaustedDestinationsAreCountedAndShown() throws {
            try run(ports: 2) { sandbox in
                for _ in 0..<3 { _ = try fill(sandbox, "127.0.0.1:6000") }
                _ = try fill(sandbox, "127.0.0.2:6000")
                let conflicts = try sandbox.state.conflicts().filter {
                    $0.last.reason == .exhausted
                }
                let counts = Dictionary(
                    uniqueKeysWithValues: conflicts.map { ($0.last.tuple.remote, $0.count) })
                #expect(
                    counts == [Endpoint("127.0.0.1:6000")!: 3, Endpoint("127.0.0.2:6000")!: 1])
                let shown = try sandbox.tupleguard("conflicts")
                #expect(shown.output.contains("no port left for 127.0.0.1:6000"))
                #expect(shown.output.contains("every local port is taken for this destination"))
                let stats = try sandbox.tupleguard("stats")
                #expect(stats.output.contains("NO PORT LEFT FOR"))
                #expect(stats.output.contains("refused_exhausted"))
                let json = try sandbox.tupleguard("stats", "--json")
                #expect(json.output.contains(#""count":3,"destination":"127.0.0.1:6000""#))
            }
        }

        @Test func statusShowsThePolicyAndThePorts() throws {
            try run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_reserved_ports", "40003-40005")
                let status = try sandbox.tupleguard("status")
                #expect(status.output.contains("all, else EADDRNOTAVAIL"))
                #expect(status.output.contains("40000-40009"))
                #expect(status.output.contains("40003-40005"))
                let json = try sandbox.tupleguard("status", "--json")
                #expect(json.output.contains(#""discover":"all""#))
                #expect(json.output.contains(#""first":40000,"last":40009"#))
            }
        }

        /// What README says of sockets whose port was chosen for them.
        @Test func aDiscoveredPortStays() throws {
            try run(ports: 1) { sandbox in
                let other = try sandbox.socket(bound: "127.0.0.1:40000")
                #expect(other.connect("127.0.0.1:6001") == nil)
                let socket = try sandbox.socket(sharing: false)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 1)
                try socket.disconnect()
                #expect(socket.local == Endpoint("0.0.0.0:40000"))
                #expect(socket.connect("127.0.0.1:6001") == "EPERM")
                #expect(socket.connect("127.0.0.1:6002") == nil)
                let failing = try sandbox.socket(sharing: false)
                #expect(failing.connect("203.0.113.1:6000") == "ENETUNREACH")
                #expect(failing.local == Endpoint("0.0.0.0:40000"))
            }
        }

        @Test func observeChangesNothing() throws {
            try Sandbox.run { sandbox in
                try setPorts(sandbox, 1)
                var policy = policy(.all)
                policy.mode = .observe
                try sandbox.attach(policy)
                let socket = try sandbox.socket(sharing: false)
                #expect(socket.connect("127.0.0.1:6000") == nil)
                #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                #expect(try sandbox.counters()[.exclusivePort] == 1)
                #expect(try sandbox.counters()[.discovered] == 0)
            }
        }

        @Test func multicastIsLeftToTheKernel() throws {
            try run { sandbox in
                try sandbox.ip("route", "add", "224.0.0.0/4", "dev", "lo")
                for destination in ["224.0.0.251:5353", "255.255.255.255:6000"] {
                    let socket = try sandbox.socket(sharing: false)
                    try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                    _ = socket.connect(destination)
                    #expect(socket.get(SOL_SOCKET, SO_REUSEADDR) == 0)
                }
                #expect(try sandbox.counters()[.exemptMulticast] == 2)
                #expect(try sandbox.counters()[.discovered] == 0)
            }
        }

        @Test(arguments: Policy.WhenFull.allCases)
        func aFullTableLeavesTheSocketToTheKernelOrRefuses(_ whenFull: Policy.WhenFull) throws {
            try Sandbox.run { sandbox in
                var policy = policy(.all)
                policy.whenFull = whenFull
                try sandbox.attach(policy, tableSize: 64)
                var failures = 0
                for _ in 0..<200 {
                    let socket = try sandbox.socket(sharing: false)
                    let failure = socket.connect("127.0.0.1:6000")
                    #expect(failure == nil || failure == "EPERM")
                    failures += failure == nil ? 0 : 1
                }
                let counters = try sandbox.counters()
                #expect(counters[.claimed] >= 64)
                let without = counters[.refusedTableFull] + counters[.allowedTableFull]
                #expect(counters[.claimed] + without == 200)
                #expect(UInt64(failures) == counters[.refusedTableFull])
                #expect((failures > 0) == (whenFull == .refuse))
            }
        }

        @Test func severalThreadsConnectOneSocket() throws {
            try run { sandbox in
                for _ in 0..<200 {
                    let socket = try sandbox.socket(sharing: false)
                    DispatchQueue.concurrentPerform(iterations: 4) { thread in
                        _ = socket.connect("127.0.0.\(1 + thread % 2):6000")
                    }
                    #expect(socket.remote != nil)
                    sandbox.close(socket)
                }
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }
    }
}
