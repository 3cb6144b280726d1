// SPDX-License-Identifier: Apache-2.0
// Overshadowed sockets: found, told apart from what only looks like it, resolved.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Shadowed {
        private func shadows(_ sandbox: Sandbox, _ more: String...) throws -> (
            status: Int32, list: [[String: Any]]
        ) {
            let outcome = try sandbox.command(
                Sandbox.program("tupleguard"),
                ["shadows", "--namespace", "self", "--json"] + more)
            let report = try outcome.json
            let list = report["shadows"] ?? report["resolved"]
            return (
                outcome.status, try #require(list as? [[String: Any]], "\(outcome.errors)")
            )
        }

        private func pids(_ socket: Any?) -> [Int] {
            let processes = (socket as? [String: Any])?["processes"] as? [[String: Any]]
            return processes?.compactMap { $0["pid"] as? Int } ?? []
        }

        /// Two sockets on one tuple, both connected.
        private func pair(
            _ sandbox: Sandbox, _ kinds: (Sandbox.Kind, Sandbox.Kind) = (.v4, .v4),
            _ names: (String, String) = ("127.0.0.1:5000", "127.0.0.1:5000"),
            to remotes: (String, String) = ("127.0.0.1:6000", "127.0.0.1:6000"),
            devices: (String?, String?) = (nil, nil)
        ) throws -> (TestSocket, TestSocket) {
            let a = try sandbox.socket(kinds.0)
            let b = try sandbox.socket(kinds.1)
            if let device = devices.0 { try a.bindToDevice(device) }
            if let device = devices.1 { try b.bindToDevice(device) }
            try a.bind(names.0)
            try b.bind(names.1)
            #expect(a.connect(remotes.0) == nil)
            #expect(b.connect(remotes.1) == nil)
            return (a, b)
        }

        /// d0 and d1, the ends of one virtual cable.
        private func addDevices(_ sandbox: Sandbox) throws {
            try sandbox.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
            for device in ["d0", "d1"] { try sandbox.ip("link", "set", device, "up") }
        }

        @Test func noneWhereThereAreNone() throws {
            try Sandbox.run { sandbox in
                #expect(try shadows(sandbox).status == 0)
                let text = try sandbox.tupleguard("shadows", "--namespace", "self")
                #expect(text.output == "no UDP socket is overshadowed\n")
                // Shared ports, to different destinations; two that are not connected.
                _ = try pair(sandbox, to: ("127.0.0.1:6000", "127.0.0.1:6001"))
                for _ in 0..<2 { _ = try sandbox.socket(bound: "127.0.0.1:5000") }
                #expect(try shadows(sandbox).list.isEmpty)
            }
        }

        @Test func namesBothSides() throws {
            try Sandbox.run { sandbox in
                let first = try sandbox.lastingCondition("udp(5000, 6000)")
                let second = try sandbox.lastingCondition("udp(5000, 6000)")
                let (status, list) = try shadows(sandbox)
                #expect(status == 2)
                try #require(list.count == 1)
                #expect(list[0]["local"] as? String == "127.0.0.1:5000")
                #expect(list[0]["remote"] as? String == "127.0.0.1:6000")
                let overshadowed = list[0]["overshadowed"] as? [Any] ?? []
                #expect(overshadowed.count == 1)
                // Nothing was received yet, so it is the newcomer, on every kernel.
                #expect(pids(list[0]["receiver"]) == [Int(second.pid)])
                #expect(pids(overshadowed.first) == [Int(first.pid)])
                let text = try sandbox.tupleguard("shadows", "--namespace", "self").output
                #expect(text.contains("receives      python3 (pid "))
                #expect(text.contains("overshadowed  python3 (pid "))
                for process in [first, second] { process.end() }
                #expect(try shadows(sandbox).list.isEmpty)
            }
        }

        /// A process and the child that it gave the socket to.
        @Test func countsThoseThatShareASocket() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.condition(
                    """
                    udp(5000, 6000); udp(5000, 6000)
                    # The child ends with its parent, when nobody can write any more.
                    reader, writer = os.pipe()
                    child = os.fork()
                    if child == 0: os.close(writer); os.read(reader, 1); os._exit(0)
                    print('child', child, flush=True)
                    """)
                try ending(server) {
                    let words = server.outputSoFar.split(whereSeparator: \.isWhitespace)
                    let child = try #require(words.dropFirst().first.flatMap { Int32($0) })
                    let list = try shadows(sandbox).list
                    let both = [Int(server.pid), Int(child)].sorted()
                    #expect(pids(list.first?["receiver"]).sorted() == both)
                    let text = try sandbox.tupleguard("shadows", "--namespace", "self").output
                    #expect(text.contains("(pid \(both[0]), uid 0) and 1 more"))
                }
            }
        }

        /// Tuples with sockets of these processes, among those of all network namespaces.
        private func shadows(_ sandbox: Sandbox, of programs: [RunningProgram]) throws
            -> [JSONObject]
        {
            let list = try sandbox.tupleguard("shadows", "--json").json["shadows"]
            return try #require(list as? [JSONObject]).filter {
                let members = [$0["receiver"] as Any] + ($0["overshadowed"] as? [Any] ?? [])
                return !Set(members.flatMap(pids)).isDisjoint(with: programs.map { Int($0.pid) })
            }
        }

        /// Each namespace by itself: two sockets of two of them with one tuple do not meet.
        @Test func namespacesAreLookedAtOneByOne() throws {
            try Sandbox.runTwo { sandbox, other in
                // Seen by their processes.
                let here = try sandbox.lastingCondition("udp(5000, 6000)")
                let there = try other.lastingCondition("udp(5000, 6000)")
                #expect(try shadows(sandbox, of: [here, there]).isEmpty)
                let second = try other.lastingCondition("udp(5000, 6000)")
                let list = try shadows(sandbox, of: [here, there])
                #expect(list.count == 1)
                let name = list.first?["network_namespace_name"] as? String ?? "none"
                let names = [there, second].map { "network namespace of pid \($0.pid)" }
                #expect(names.contains(name))
                let text = try sandbox.tupleguard("shadows").output
                #expect(text.contains("127.0.0.1:5000 -> 127.0.0.1:6000  in \(name)\n"))
            }
        }

        /// The one that is said to receive does, and the others do not.
        @Test(arguments: [2, 5])
        func theReceiverReceives(_ count: Int) throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.socket(bound: "127.0.0.1:6000")
                let sockets = try (0..<count).map { _ in
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                let list = try shadows(sandbox).list
                #expect((list[0]["overshadowed"] as? [Any])?.count == count - 1)
                let cookie = (list[0]["receiver"] as? [String: Any])?["cookie"] as? String
                try server.send("hello", to: Endpoint("127.0.0.1:5000")!)
                let receivers = sockets.filter { $0.receive(waiting: 200) != nil }
                #expect(receivers.map { "\($0.cookie)" } == [cookie])
            }
        }

        @Test func mappedAddressesShareTheTuple() throws {
            try Sandbox.run { sandbox in
                _ = try pair(
                    sandbox, (.v4, .v6), ("127.0.0.1:5000", "[::ffff:127.0.0.1]:5000"),
                    to: ("127.0.0.1:6000", "[::ffff:127.0.0.1]:6000"))
                #expect(try shadows(sandbox).list.count == 1)
            }
        }

        @Test func ipv6IsLookedAt() throws {
            try Sandbox.run { sandbox in
                _ = try pair(
                    sandbox, (.v6, .v6), ("[::1]:5000", "[::1]:5000"),
                    to: ("[::1]:6000", "[::1]:6000"))
                #expect(try shadows(sandbox).list.first?["local"] as? String == "[::1]:5000")
            }
        }

        @Test(
            arguments: [
                ("lo", "d0", 0), ("d0", "d1", 0), ("d0", "d0", 1), ("d0", nil, 1), (nil, "lo", 1),
            ] as [(String?, String?, Int)])
        func devicesKeepSocketsApart(_ a: String?, _ b: String?, _ count: Int) throws {
            try Sandbox.run { sandbox in
                try addDevices(sandbox)
                try sandbox.ip("address", "add", "10.7.0.1/24", "dev", "d0")
                try sandbox.ip("route", "add", "10.8.0.0/24", "dev", "d1")
                try sandbox.ip("route", "add", "10.8.0.0/24", "dev", "lo", "metric", "9")
                try sandbox.ip("route", "add", "10.8.0.0/24", "dev", "d0", "metric", "10")
                _ = try pair(
                    sandbox, (.v4, .v4), ("10.7.0.1:5000", "10.7.0.1:5000"),
                    to: ("10.8.0.9:6000", "10.8.0.9:6000"), devices: (a, b))
                #expect(try shadows(sandbox).list.count == count)
            }
        }

        @Test func multicastAndBroadcastAreMeantToBeShared() throws {
            try Sandbox.run { sandbox in
                try addDevices(sandbox)
                try sandbox.ip("address", "add", "10.7.0.1/24", "broadcast", "+", "dev", "d0")
                try sandbox.ip("route", "add", "224.0.0.0/4", "dev", "d0")
                for (port, remote) in [
                    ("5000", "239.1.2.3:6000"), ("5001", "10.7.0.255:6000"),
                ] {
                    for _ in 0..<2 {
                        let socket = try sandbox.socket()
                        try socket.set(SOL_SOCKET, SO_BROADCAST, 1)
                        try socket.bind("10.7.0.1:\(port)")
                        #expect(socket.connect(remote) == nil)
                    }
                }
                #expect(try shadows(sandbox).list.isEmpty)
            }
        }

        @Test func resolveGivesTheOtherItsAnswersBack() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.socket(bound: "127.0.0.1:6000")
                let (a, b) = try pair(sandbox)
                let cookie =
                    (try shadows(sandbox).list[0]["receiver"] as? [String: Any])?["cookie"]
                    as? String
                let (status, resolved) = try shadows(sandbox, "--resolve", "--yes")
                #expect(status == 0)
                let destroyed = resolved.first?["destroyed"] as? [String: Any]
                #expect(destroyed?["cookie"] as? String == cookie)
                #expect(try shadows(sandbox).status == 0)
                let (victim, other) = "\(a.cookie)" == cookie ? (a, b) : (b, a)
                var error: Int32 = 0
                var length = socklen_t(MemoryLayout<Int32>.size)
                getsockopt(victim.descriptor, SOL_SOCKET, SO_ERROR, &error, &length)
                #expect(error == ECONNABORTED)
                try server.send("hello", to: Endpoint("127.0.0.1:5000")!)
                #expect(other.receive() == "hello")
            }
        }

        @Test func resolveAsksAndNeedsPrivilege() throws {
            try Sandbox.run { sandbox in
                _ = try pair(sandbox)
                // No terminal to ask on.
                let unasked = try sandbox.tupleguard("shadows", "--namespace", "self", "--resolve")
                #expect(unasked.status == 64)
                #expect(unasked.errors.contains("give --yes"))
                let nobody = try sandbox.tupleguard(
                    "shadows", "--namespace", "self", "--resolve", "--yes", asNobody: true)
                #expect(nobody.status == 1)
                #expect(nobody.errors.contains("it needs CAP_NET_ADMIN; run it as root (sudo)"))
                #expect(nobody.output.contains("a process that cannot be seen (uid 0)"))
                #expect(try shadows(sandbox).list.count == 1)
            }
        }

        /// Runs `shadows --resolve` on a terminal, and gives these answers.
        private func resolve(_ sandbox: Sandbox, answering answers: String...) throws
            -> Sandbox.Outcome
        {
            let driver = """
                import os, pty, sys
                child, terminal = pty.fork()
                if child == 0: os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[2].split())
                answers = sys.argv[3:]; text = ''
                while True:
                    try: more = os.read(terminal, 4096)
                    except OSError: break
                    if not more: break
                    text += more.decode()
                    if answers and text.count('/N] ') > len(sys.argv) - 3 - len(answers):
                        os.write(terminal, answers.pop(0).encode() + b'\\n')
                print(text)
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                """
            return try sandbox.command(
                "/usr/bin/env",
                [
                    "python3", "-c", driver, Sandbox.program("tupleguard"),
                    "shadows --namespace self --resolve",
                ] + answers)
        }

        @Test(arguments: ["y", "YES"])
        func resolveAsksOnTheTerminal(_ yes: String) throws {
            try Sandbox.run { sandbox in
                _ = try pair(sandbox)
                let outcome = try resolve(sandbox, answering: yes)
                #expect(outcome.status == 0)
                let question = "Destroy the socket of "
                #expect(outcome.output.split(separator: question).count == 2)
                #expect(outcome.output.contains("(pid \(getpid()), uid 0)"))
                #expect(outcome.output.contains("destroyed: "))
                #expect(try shadows(sandbox).status == 0)
            }
        }

        @Test(arguments: ["n", "", "yo"])
        func resolveDestroysNothingWithoutAYes(_ no: String) throws {
            try Sandbox.run { sandbox in
                _ = try pair(sandbox)
                let outcome = try resolve(sandbox, answering: no)
                #expect(outcome.status == 2)
                #expect(outcome.output.contains("[y/N] "))
                #expect(!outcome.output.contains("destroyed: "))
                #expect(try shadows(sandbox).list.count == 1)
            }
        }

        /// Over a device an IPv4 socket and one with mapped addresses: which of them came last
        /// cannot be told.
        private func doubtfulPair(_ sandbox: Sandbox) throws -> (v4: TestSocket, v6: TestSocket) {
            try addDevices(sandbox)
            try sandbox.ip("address", "add", "10.7.0.1/24", "dev", "d0")
            return try pair(
                sandbox, (.v4, .v6), ("10.7.0.1:5000", "[::ffff:10.7.0.1]:5000"),
                to: ("10.7.0.9:6000", "[::ffff:10.7.0.9]:6000"))
        }

        @Test func resolveDestroysNothingOnAGuess() throws {
            try Sandbox.run { sandbox in
                let (a, b) = try doubtfulPair(sandbox)
                let found = try #require(try shadows(sandbox).list.first)
                #expect(found["receiver"] == nil)
                #expect(found["depends_on"] as? String == "arrival")
                let text = try sandbox.tupleguard("shadows", "--namespace", "self").output
                #expect(text.split(separator: "may receive   ").count == 3)
                #expect(text.contains("depends on    how the datagram arrives"))

                let (status, resolved) = try shadows(sandbox, "--resolve", "--yes")
                #expect(status == 2)
                #expect(resolved.first?["destroyed"] == nil)
                #expect((resolved.first?["undecided"] as? String)?.contains("not certain") == true)
                for socket in [a, b] { #expect(socket.remote != nil) }
            }
        }

        @Test func resolveAsksWhichOfTwo() throws {
            try Sandbox.run { sandbox in
                let (a, b) = try doubtfulPair(sandbox)
                for no in ["", "0", "3", "y"] {
                    #expect(try resolve(sandbox, answering: no).status == 2)
                }
                for socket in [a, b] { #expect(socket.remote != nil) }
                // The first is one that the look-up finds, and so can be reached.
                let yes = try resolve(sandbox, answering: "1")
                #expect(yes.status == 0, "\(yes.output)")
                #expect(yes.output.contains("Which of them is to be destroyed? [1-2/N] "))
                #expect([a, b].count { $0.remote == nil } == 1)
                #expect(try shadows(sandbox).status == 0)
            }
        }

        /// One is destroyed, the other left: as they are shown, in their order.
        @Test func resolveAsksForEach() throws {
            try Sandbox.run { sandbox in
                _ = try pair(sandbox)
                _ = try pair(sandbox, to: ("127.0.0.1:6001", "127.0.0.1:6001"))
                let outcome = try resolve(sandbox, answering: "n", "y")
                #expect(outcome.status == 2)
                let left = try shadows(sandbox).list
                #expect(left.map { $0["remote"] as? String } == ["127.0.0.1:6000"])
            }
        }

        @Test func watchKeepsTheTimeOfTheFirstSight() throws {
            try Sandbox.run { sandbox in
                let watch = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    ["shadows", "--namespace", "self", "--watch", "0.2", "--json"])
                try ending(watch) {
                    #expect(eventually { watch.outputSoFar.contains(#""shadows":[]"#) })
                    _ = try pair(sandbox)
                    func sights() -> [String] {
                        watch.outputSoFar.split(separator: "\n").compactMap { line in
                            let list = (try? jsonObject(line))?["shadows"] as? [JSONObject]
                            return list?.first?["first_seen"] as? String
                        }
                    }
                    #expect(eventually { sights().count >= 3 })
                    #expect(Set(sights()).count == 1)
                }
            }
        }
    }
}
