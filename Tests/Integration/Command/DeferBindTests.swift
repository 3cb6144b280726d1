// SPDX-License-Identifier: Apache-2.0
// `exec --defer-bind`, with programs that bind to port 0 before they connect.

import Foundation
import Glibc
import Testing
import TupleguardTestSupport

/// What a container is: namespaces of its own, where it is root and process 1.
private let container = [
    "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc",
]

/// Why there can be none here; nil where there can.
private let cannotContain: String? = {
    if cannotRunBPF != nil { return cannotRunBPF }
    var why: String?
    do {
        try Sandbox.run { sandbox in
            let outcome = try sandbox.command(
                "/usr/bin/env", container + ["true"])
            if outcome.status != 0 { why = "no user namespace can be made: \(outcome.errors)" }
        }
    } catch {
        why = "\(error)"
    }
    return why
}()

extension IntegrationTests {
    @Suite struct DeferBind {
        private let tupleguard = Sandbox.program("tupleguard")
        private static let python = "/usr/bin/python3"

        /// TCP to three destinations, each socket bound to an address and port 0: prints how many
        /// connected, and on how many ports.
        private static let dial = """
            import socket
            servers = []
            for i in 1, 2, 3:
                s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("127.0.0.%d" % i, 7900))
                s.listen(500); servers.append(s)
            open_ = []
            for i in range(300):
                s = socket.socket()
                try: s.bind(("127.0.0.7", 0)); s.connect(("127.0.0.%d" % (1 + i % 3), 7900))
                except OSError: continue
                open_.append(s)
            print(len(open_), "on", len({s.getsockname()[1] for s in open_}))
            """

        /// A hundred ports, and the sandbox to have them.
        private func withHundredPorts(_ body: (Sandbox) throws -> Void) throws {
            try Sandbox.run { sandbox in
                try sandbox.sysctl("net.ipv4.ip_local_port_range", "40000 40099")
                try body(sandbox)
            }
        }

        private func run(
            _ sandbox: Sandbox, _ options: [String], _ command: [String], asNobody: Bool = false
        ) throws -> Sandbox.Outcome {
            try sandbox.command(
                tupleguard, ["exec"] + options + ["--"] + command, asNobody: asNobody)
        }

        private func python(
            _ sandbox: Sandbox, _ options: [String], _ script: String, asNobody: Bool = false
        ) throws -> Sandbox.Outcome {
            try run(sandbox, options, [Self.python, "-c", script], asNobody: asNobody)
        }

        // MARK: - TCP

        @Test func withoutItAPortServesOneConnection() throws {
            try withHundredPorts { sandbox in
                let outcome = try python(sandbox, [], Self.dial)
                #expect(outcome.output == "100 on 100\n", "\(outcome.errors)")
            }
        }

        @Test(arguments: [false, true])
        func aPortServesEveryDestination(asNobody: Bool) throws {
            try withHundredPorts { sandbox in
                let outcome = try python(
                    sandbox, ["--defer-bind"], Self.dial, asNobody: asNobody)
                #expect(outcome.output == "300 on 100\n", "\(outcome.errors)")
                #expect(outcome.errors.contains("left open until connect() for 300 sockets"))
                #expect(outcome.errors.contains("no guard") == asNobody)
            }
        }

        /// In a thread of a process that the command started, and whose parent has gone.
        @Test func descendantsAreHelpedToo() throws {
            try withHundredPorts { sandbox in
                let script = """
                    import os, sys, threading
                    if os.fork():
                        os.wait(); sys.exit()
                    read, write = os.pipe()
                    if os.fork():
                        os.close(write)
                        while piece := os.read(read, 100): sys.stdout.write(piece.decode())
                        os.wait(); os._exit(0)
                    os.setsid()
                    if os.fork(): os._exit(0)
                    os.dup2(write, 1)
                    def dial(): exec('''\(Self.dial)''')
                    thread = threading.Thread(target=dial); thread.start(); thread.join()
                    sys.stdout.flush(); os._exit(0)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(outcome.output == "300 on 100\n", "\(outcome.errors)")
            }
        }

        /// A server on a port of the kernel's choice asks for it before listen(), as Python's does.
        @Test func aServerThatAsksForItsPortHasOne() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import socket
                    s = socket.socket(); s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
                    s.listen(1); c = socket.create_connection(("127.0.0.1", port))
                    print(port > 0 and s.getsockname()[1] == port and c.getpeername()[1] == port)
                    t = socket.socket(); t.bind(("127.0.0.1", 0)); t.listen(1)
                    c = socket.create_connection(t.getsockname()); print(t.accept()[0] is not None)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(outcome.output == "True\nTrue\n", "\(outcome.errors)")
                #expect(outcome.errors.contains("for 2 sockets, of which 1 got one when"))
            }
        }

        @Test func whatIsNotForIPv4OrIPv6OrHasAPortIsLeftAlone() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import socket
                    def option(family, type, address, path=None):
                        s = socket.socket(family, type); s.bind(address)
                        return s.getsockopt(0, 24) if family != socket.AF_UNIX else s.getsockname()
                    print(option(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 4001)),
                          option(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
                          option(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
                          option(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
                          option(socket.AF_UNIX, socket.SOCK_STREAM, b"\\0a-name-of-more-than-16"))
                    for wrong in ("192.0.2.1", 0), :
                        try: socket.socket().bind(wrong)
                        except OSError as error: print(error.errno)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(
                    outcome.output == "0 0 1 1 b'\\x00a-name-of-more-than-16'\n\(EADDRNOTAVAIL)\n",
                    "\(outcome.errors)")
            }
        }

        /// Signals come all the time, as from Go's runtime; children are stopped and go on.
        @Test func interruptedCallsAreNotLost() throws {
            try withHundredPorts { sandbox in
                let script = """
                    import signal
                    signal.signal(signal.SIGALRM, lambda *_: None)
                    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script + "\n" + Self.dial)
                #expect(outcome.output == "300 on 100\n", "\(outcome.errors)")
            }
        }

        /// bind() takes a socket's address away where it finds no port (__inet_bind).
        @Test(arguments: ["127.0.0.7", "::1"])
        func whoAsksWhenThereIsNoPortKeepsTheAddress(address: String) throws {
            try withHundredPorts { sandbox in
                let script = """
                    import socket
                    family = socket.AF_INET6 if ":" in "\(address)" else socket.AF_INET
                    server = socket.socket(socket.AF_INET6); server.bind(("::", 7900)); server.listen(9)
                    held = [socket.socket(family) for _ in range(100)]
                    for i, one in enumerate(held): one.bind(("\(address)", 40000 + i))
                    s = socket.socket(family); s.bind(("\(address)", 0)); print(*s.getsockname()[:2])
                    for one in held: one.close()
                    s.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", 7900))
                    print(s.getsockname()[0], s.getsockname()[1] > 0)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(
                    outcome.output == "\(address) 0\n\(address) True\n", "\(outcome.errors)")
            }
        }

        /// As Envoy does with `upstream_bind_config`: event loops in several threads, each socket
        /// bound, asked for its port where it does so, and connected without waiting.
        private static func proxy(asks: Bool, reuses: Bool) -> String {
            """
            import errno, select, socket, threading
            servers = []
            for i in 1, 2, 3:
                s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("127.0.0.%d" % i, 7900))
                s.listen(500); servers.append(s)
            connected = []
            def serve(numbers):
                loop, waiting = select.epoll(), {}
                for i in numbers:
                    s = socket.socket(); s.setblocking(False)
                    if \(reuses ? 1 : 0): s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try: s.bind(("127.0.0.7", 0))
                    except OSError: continue
                    if \(asks ? 1 : 0): s.getsockname()
                    if s.connect_ex(("127.0.0.%d" % (1 + i % 3), 7900)) == errno.EINPROGRESS:
                        waiting[s.fileno()] = s; loop.register(s, select.EPOLLOUT)
                while waiting:
                    for number, _ in loop.poll():
                        s = waiting.pop(number); loop.unregister(s)
                        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                        connected.append(s)
            threads = [threading.Thread(target=serve, args=(range(n, 300, 8),)) for n in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(len(connected), "on", len({s.getsockname()[1] for s in connected}))
            """
        }

        @Test(arguments: [false, true])
        func eventLoopsInThreadsAreHelped(reuses: Bool) throws {
            try withHundredPorts { sandbox in
                let script = Self.proxy(asks: false, reuses: reuses)
                #expect(try python(sandbox, [], script).output == "100 on 100\n")
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(outcome.output == "300 on 100\n", "\(outcome.errors)")
            }
        }

        /// And has to be told nothing, for it asks between bind() and connect().
        @Test(arguments: [false, true])
        func whoAsksForThePortIsHelpedWhenToldZero(reuses: Bool) throws {
            try withHundredPorts { sandbox in
                let script = Self.proxy(asks: true, reuses: reuses)
                let given = try python(sandbox, ["--defer-bind"], script)
                #expect(given.output == "100 on 100\n", "\(given.errors)")
                #expect(given.errors.contains("of which 100 got one when their program asked"))
                let told = try python(
                    sandbox, ["--defer-bind", "--getsockname", "zero"], script)
                #expect(told.output == "300 on 100\n", "\(told.errors)")
            }
        }

        @Test(.enabled(if: cannotContain == nil, "\(cannotContain ?? "")"))
        func containersAreHelped() throws {
            try withHundredPorts { sandbox in
                let outcome = try run(
                    sandbox, ["--defer-bind"], container + [Self.python, "-c", Self.dial])
                #expect(outcome.output == "300 on 100\n", "\(outcome.errors)")
            }
        }

        /// Without CAP_SYS_ADMIN the kernel wants no_new_privs for a filter (seccomp(2)).
        @Test func setuidProgramsStayWhoTheyAreUnlessRootStartsThem() throws {
            try Sandbox.run { sandbox in
                try withTemporaryFolder { folder in
                    let copy = "\(folder)/id"
                    let make =
                        "chmod 755 \(folder) && cp /usr/bin/id \(copy) && chmod 4755 \(copy)"
                    #expect(try sandbox.command("/bin/sh", ["-c", make]).status == 0)
                    func user(_ line: [String], asNobody: Bool) throws -> String {
                        try sandbox.command(line[0], Array(line.dropFirst()), asNobody: asNobody)
                            .output
                    }
                    let deferred = [tupleguard, "exec", "--defer-bind", "--no-guard", "--"]
                    // (0, unless the file system takes no setuid programs.)
                    let alone = try user([copy, "-u"], asNobody: true)
                    #expect(try user(deferred + [copy, "-u"], asNobody: true) == "65534\n")
                    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", copy, "-u"]
                    #expect(try user(deferred + nobody, asNobody: false) == alone)
                }
            }
        }

        // MARK: - UDP

        /// Many destinations from sockets bound to port 0, each with its own answer.
        private static let ask = """
            import socket, select
            servers = {}
            for i in range(300):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.bind(("127.0.1.%d" % (i % 250 + 1), 5000 + i // 250)); servers[s] = i
            asking = []
            for server, i in servers.items():
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
                try: s.bind(("127.0.0.7", 0)); s.connect(server.getsockname())
                except OSError: continue
                s.send(b"?"); asking.append((s, i))
            for server, i in servers.items():
                while select.select([server], [], [], 0)[0]:
                    _, who = server.recvfrom(9); server.sendto(b"%d" % i, who)
            right = sum(s.recv(9) == b"%d" % i for s, i in asking)
            print(right, "right on", len({s.getsockname()[1] for s, _ in asking}) <= 100)
            """

        @Test func udpSharesPortsUnderDiscovery() throws {
            try withHundredPorts { sandbox in
                let without = try python(sandbox, ["--discover", "all"], Self.ask)
                #expect(without.output == "100 right on True\n", "\(without.errors)")
                let with = try python(
                    sandbox, ["--defer-bind=udp", "--discover", "all"], Self.ask)
                #expect(with.output == "300 right on True\n", "\(with.errors)")
            }
        }

        /// As aioquic's client does: it keeps its port to itself. Where there is none its first
        /// datagram is refused, instead of bind().
        @Test func aSocketThatNeverConnectsSharesNothing() throws {
            try withHundredPorts { sandbox in
                let script = """
                    import collections, errno, socket
                    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    server.setsockopt(socket.SOL_SOCKET, 33, 1 << 20); server.bind(("127.0.0.1", 5000))
                    asking, said = [], collections.Counter()
                    for i in range(150):
                        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setblocking(False)
                        try: s.bind(("127.0.0.7", 0)); s.sendto(b"%d" % i, server.getsockname())
                        except OSError as error: said[errno.errorcode[error.errno]] += 1; continue
                        asking.append((s, i))
                    for _ in asking: server.sendto(*server.recvfrom(9))
                    right = sum(s.recv(9) == b"%d" % i for s, i in asking)
                    print(right, "on", len({s.getsockname()[1] for s, _ in asking}), dict(said))
                    """
                let without = try python(sandbox, ["--discover", "all"], script)
                #expect(without.output == "100 on 100 {'EADDRINUSE': 50}\n", "\(without.errors)")
                let with = try python(sandbox, ["--defer-bind=udp", "--discover", "all"], script)
                #expect(with.output == "100 on 100 {'EAGAIN': 50}\n", "\(with.errors)")
            }
        }

        @Test(arguments: ["port", "zero"])
        func whatIsAnsweredBeforeConnect(answer: String) throws {
            try Sandbox.run { sandbox in
                let script = """
                    import socket
                    for type in socket.SOCK_STREAM, socket.SOCK_DGRAM:
                        s = socket.socket(socket.AF_INET, type); s.bind(("127.0.0.1", 0))
                        print(s.getsockname()[1] > 0); s.close()
                    """
                let outcome = try python(
                    sandbox, ["--defer-bind=all", "--getsockname", answer], script)
                let isGiven = answer == "port" ? "True" : "False"
                #expect(outcome.output == "\(isGiven)\n\(isGiven)\n", "\(outcome.errors)")
            }
        }

        @Test func whoIsToldZeroIsCounted() throws {
            try Sandbox.run { sandbox in
                let outcome = try python(
                    sandbox, ["--defer-bind=udp", "--json"],
                    """
                    import socket
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0))
                    print(s.getsockname()[1]); s.close()
                    """)
                #expect(outcome.output == "0\n")
                let deferred = try #require(
                    jsonObject(outcome.errors)["deferred"] as? [String: Any])
                #expect(deferred["udp"] as? Int == 1)
                #expect(deferred["tcp"] as? Int == 0)
                #expect(deferred["asked_and_told_zero"] as? Int == 1)
            }
        }

        // MARK: - The command's end, and ours

        @Test(arguments: [false, true])
        func itEndsWithTheCommandsStatus(asNobody: Bool) throws {
            try Sandbox.run { sandbox in
                func status(_ command: String...) throws -> Int32 {
                    try run(sandbox, ["--defer-bind"], command, asNobody: asNobody).status
                }
                #expect(try status("sh", "-c", "exit 7") == 7)
                #expect(try status("sh", "-c", "kill -9 $$") == 137)
                #expect(try status("/no/such/command") == 127)
                #expect(try status("/dev/null") == 126)
                let outcome = try run(
                    sandbox, ["--defer-bind"],
                    ["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"],
                    asNobody: asNobody)
                #expect(outcome.errors.contains("ended 1 process that the command left running"))
                let pid = try #require(Int32(outcome.output.filter(\.isNumber)))
                #expect(eventually { kill(pid, 0) != 0 })
            }
        }

        @Test func signalsAreHandedOn() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    tupleguard,
                    [
                        "exec", "--defer-bind", "--", "sh", "-c",
                        "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done",
                    ], asNobody: true)
                #expect(eventually { run.outputSoFar.contains("up") })
                run.signal(SIGTERM)
                #expect(run.wait().status == 5)
            }
        }

        /// Nobody would answer its calls any more.
        @Test func whenItIsKilledSoIsTheCommand() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    tupleguard,
                    [
                        "exec", "--defer-bind", "--no-guard", "--", "sh", "-c",
                        "echo $$; exec sleep 1000",
                    ])
                #expect(eventually { run.outputSoFar.hasSuffix("\n") })
                let pid = try #require(Int32(run.outputSoFar.filter(\.isNumber)))
                run.signal(SIGKILL)
                #expect(eventually { kill(pid, 0) != 0 })
                #expect(run.wait().status == 128 + SIGKILL)
            }
        }

        /// One supervisor is what the kernel allows (SECCOMP_FILTER_FLAG_NEW_LISTENER).
        @Test func aSecondOneBelowIsRefusedWithTheReason() throws {
            try Sandbox.run { sandbox in
                let outcome = try run(
                    sandbox, ["--defer-bind", "--no-guard"],
                    [tupleguard, "exec", "--defer-bind", "--no-guard", "--", "true"])
                #expect(outcome.status == 125)
                #expect(outcome.errors.contains("watches this one's system calls already"))
            }
        }

        /// A program's own filter comes first where it forbids (seccomp(2)).
        @Test func aFilterOfTheProgramsOwnHolds() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import ctypes, errno, platform, socket, struct
                    number = {"x86_64": 49, "aarch64": 200}[platform.machine()]
                    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | errno.ENOTTY),
                            (6, 0, 0, 0x7fff0000)]
                    raw = b"".join(struct.pack("HBBI", *c) for c in code)
                    buffer = ctypes.create_string_buffer(raw)
                    program = struct.pack("HP", len(code), ctypes.addressof(buffer))
                    libc = ctypes.CDLL(None)
                    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
                    try: socket.socket().bind(("127.0.0.1", 0))
                    except OSError as error: print(error.errno == errno.ENOTTY)
                    """
                let outcome = try python(sandbox, ["--defer-bind"], script)
                #expect(outcome.output == "True\n", "\(outcome.errors)")
            }
        }

        @Test func optionsThatDoNotFitAreRefused() throws {
            try Sandbox.run { sandbox in
                for options in [
                    ["--no-guard"], ["--getsockname", "port"],
                    ["--defer-bind", "--no-guard", "--discover", "all"], ["--defer-bind=sctp"],
                ] {
                    #expect(try run(sandbox, options, ["true"]).status == 64, "\(options)")
                }
                // A policy is not dropped in silence.
                let outcome = try run(
                    sandbox, ["--defer-bind=udp", "--discover", "all"], ["true"], asNobody: true)
                #expect(outcome.status == 125)
                #expect(outcome.errors.contains("CAP_"))
            }
        }
    }
}
