// SPDX-License-Identifier: Apache-2.0
// libconnectx.so as C and Python programs use it.

import Connectx
import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct ConnectxFromC {
        static let examples = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Sources/CConnectx/examples").path()
        static let pythonModules = examples + "/../python"

        /// Runs a Python program that has `connectx`, `socket`, `os`, `errno` and `attempt(...)`,
        /// which gives the name of the errno or "ok".
        func python(
            _ sandbox: Sandbox, _ program: String, in cgroup: Cgroup? = nil, asNobody: Bool = false,
            environment: [String: String] = [:]
        ) throws -> RunningProgram {
            let prelude = """
                import sys; sys.path.insert(0, '\(Self.pythonModules)'); sys.dont_write_bytecode = True
                import ctypes, errno, os, platform, signal, socket, struct, time
                from connectx import _call as connectx
                connectx.connect = connectx.connectx
                def attempt(*arguments, **options):
                    try: connectx.connect(*arguments, **options)
                    except OSError as error: return errno.errorcode[error.errno]
                    return 'ok'
                def udp(): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                def tcp(): return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

                """
            var environment = environment
            environment["CONNECTX_LIBRARY"] = try ConnectxLibrary.path
            var line = ["/usr/bin/python3", "-c", prelude + program]
            if Self.isUnderValgrind {
                // Of the memory that Python keeps pools of, valgrind would see the pools only.
                environment["PYTHONMALLOC"] = "malloc"
                line = ["/usr/bin/valgrind", "--quiet", "--error-exitcode=66"] + line
            }
            return try sandbox.start(
                line[0], Array(line.dropFirst()), in: cgroup, environment: environment,
                asNobody: asNobody)
        }

        /// scripts/sanitize asks for it.
        static let isUnderValgrind = getenv("TUPLEGUARD_VALGRIND") != nil

        func expect(
            _ program: String, prints expected: String, asNobody: Bool = false,
            environment: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            try Sandbox.run { sandbox in
                let outcome = try python(
                    sandbox, program, asNobody: asNobody, environment: environment
                ).wait()
                #expect(
                    outcome.output == expected + "\n", "\(outcome.errors)",
                    sourceLocation: sourceLocation)
                #expect(
                    !Self.isUnderValgrind || outcome.status == 0, "\(outcome.errors)",
                    sourceLocation: sourceLocation)
            }
        }

        // MARK: - What is shipped

        @Test func theLibraryNeedsOnlyLibcAndShowsOnlyItsFunctions() throws {
            try Sandbox.run { sandbox in
                let needed = try sandbox.command(
                    "/usr/bin/readelf", ["--dynamic", "--wide", ConnectxLibrary.path])
                let libraries = needed.output.split(separator: "\n")
                    .filter { $0.contains("(NEEDED)") }
                #expect(libraries.count == 1)
                #expect(libraries.first?.contains("[libc.so.6]") == true)
                let symbols = try sandbox.command(
                    "/usr/bin/nm", ["--dynamic", "--defined-only", ConnectxLibrary.path])
                let names = symbols.output.split(separator: "\n")
                    .compactMap { $0.split(separator: " ").last }
                #expect(
                    names.sorted() == [
                        "CONNECTX_1", "connectx@@CONNECTX_1", "disconnectx@@CONNECTX_1",
                    ])
            }
        }

        @Test func theCExampleRuns() throws {
            try Sandbox.run { sandbox in
                let folder = try ConnectxLibrary.folder
                let program = NSTemporaryDirectory() + "tupleguard-test-ask-\(getpid())"
                defer { unlink(program) }
                let build = try sandbox.command(
                    "/bin/sh",
                    [
                        "-c",
                        "exec clang -Wall -Wextra -Werror '\(Self.examples)/ask.c' $(pkg-config --cflags --libs connectx) -o '\(program)'",
                    ], environment: ["PKG_CONFIG_PATH": folder + "/lib/pkgconfig"])
                #expect(build.status == 0, "\(build.errors)")
                let server = try sandbox.socket(bound: "127.0.0.1:50001")
                let client = try sandbox.start(
                    program, ["127.0.0.1", "50001", "hello"],
                    environment: ["LD_LIBRARY_PATH": folder + "/lib"])
                var ready = pollfd(fd: server.descriptor, events: Int16(POLLIN), revents: 0)
                #expect(poll(&ready, 1, 10_000) == 1)
                #expect(server.answer() == "hello")
                let outcome = client.wait()
                #expect(outcome.status == 0, "\(outcome.errors)")
                #expect(outcome.output.hasSuffix("got: hello\n"))
            }
        }

        @Test func thePythonModuleRuns() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside { try setIP("ip_local_port_range", "41000 41019") }
                for host in ["127.0.0.1", "::1"] {
                    let outcome = try sandbox.command(
                        "/usr/bin/python3", ["-m", "connectx", host, "9", "30"],
                        environment: [
                            "CONNECTX_LIBRARY": ConnectxLibrary.path,
                            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": Self.pythonModules,
                        ])
                    #expect(
                        outcome.output == "after 20: Resource temporarily unavailable\n",
                        "\(outcome.errors)")
                }
            }
        }

        // MARK: - The function

        @Test func errnoIsConnects() throws {
            try expect(
                """
                to, mine = ('127.0.0.1', 9), ('127.0.0.1', 42000)
                one, two = udp(), udp()
                print(attempt(one, to, mine), attempt(two, to, mine), attempt(one, to))
                print(attempt(two, ('::1', 9)), attempt(two, ('127.0.0.1', 0)), attempt(two, to, ('1.2.3.4', 5)))
                unix = socket.socket(socket.AF_UNIX)
                print(attempt(unix, to), attempt(tcp(), to), attempt(two, ('192.0.2.1', 9)))
                listener = tcp(); listener.bind(('127.0.0.1', 0)); listener.listen()
                there = listener.getsockname()
                a, b = tcp(), tcp()
                print(attempt(a, there, mine), attempt(b, there, mine), attempt(a, there))
                """,
                prints: """
                    ok EADDRINUSE EISCONN
                    EAFNOSUPPORT EINVAL EADDRNOTAVAIL
                    ENOTSUP ECONNREFUSED ENETUNREACH
                    ok EADDRNOTAVAIL EISCONN
                    """)
        }

        @Test func argumentsThatMakeNoSense() throws {
            try expect(
                """
                f = connectx._library.connectx
                def call(sock, to=connectx._name(('127.0.0.1', 9)), length=16, association=0, flags=0, vectors=None, count=0):
                    e = connectx._Endpoints(0, None, 0, to, length)
                    r = f(sock.fileno(), ctypes.byref(e), association, flags, vectors, count, None, None)
                    return 'ok' if r == 0 else errno.errorcode[ctypes.get_errno()]
                v = connectx._Vector(b'x', 1)
                print(call(udp(), length=3), call(udp(), length=0), call(udp(), to=None), call(udp(), association=7))
                print(call(udp(), flags=4), call(tcp(), flags=2), call(udp(), vectors=ctypes.byref(v)), call(udp(), count=1))
                print(call(tcp(), flags=1, vectors=ctypes.byref(v), count=1), call(udp(), count=1 << 31, vectors=ctypes.byref(v)))
                print(f(udp().fileno(), None, 0, 0, None, 0, None, None), errno.errorcode[ctypes.get_errno()])
                print(call(udp()))
                """,
                prints: """
                    EINVAL EINVAL EINVAL EINVAL
                    EINVAL EINVAL EINVAL EINVAL
                    EINVAL EINVAL
                    -1 EINVAL
                    ok
                    """)
        }

        @Test func firstDataAndItsLength() throws {
            try expect(
                """
                server = udp(); server.bind(('127.0.0.1', 50001))
                client = udp()
                print(connectx.connect(client, ('127.0.0.1', 50001), data=b'hello'), server.recv(10))
                listener = tcp(); listener.bind(('127.0.0.1', 50001)); listener.listen()
                for flags in (0, connectx.DATA_IDEMPOTENT):
                    client = tcp()
                    print(connectx.connect(client, ('127.0.0.1', 50001), data=b'hello', flags=flags), listener.accept()[0].recv(10))
                client = tcp()
                connectx.connect(client, ('127.0.0.1', 50001), flags=connectx.RESUME_ON_READ_WRITE)
                client.send(b'later'); print(listener.accept()[0].recv(10))
                """,
                prints: "5 b'hello'\n5 b'hello'\n5 b'hello'\nb'later'")
        }

        @Test func disconnecting() throws {
            try expect(
                """
                d = connectx._library.disconnectx
                s = udp(); connectx.connect(s, ('127.0.0.1', 9))
                print(d(s.fileno(), 0, 0), s.getsockname()[1], attempt(s, ('127.0.0.1', 10)))
                print(d(s.fileno(), ctypes.c_uint(0xffffffff), ctypes.c_uint(0xffffffff)), d(s.fileno(), 3, 0), d(-1, 0, 0))
                """,
                prints: "0 0 ok\n0 -1 -1")
        }

        @Test func notBlocking() throws {
            try expect(
                """
                listener = tcp(); listener.bind(('127.0.0.1', 50001)); listener.listen()
                s = tcp(); s.setblocking(False)
                first = attempt(s, ('127.0.0.1', 50001))
                import select; select.select([], [s], [], 5)
                print(first, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.getpeername())
                """,
                prints: "EINPROGRESS 0 ('127.0.0.1', 50001)")
        }

        // MARK: - Processes and namespaces

        @Test func afterAFork() throws {
            try expect(
                """
                s = udp(); connectx.connect(s, ('127.0.0.1', 9), ('127.0.0.1', 42000))
                netlink = lambda: sorted(os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if f != '3')
                child = os.fork()
                if child == 0:
                    for _ in range(50):
                        if attempt(udp(), ('127.0.0.1', 9), ('127.0.0.1', 42000)) != 'EADDRINUSE': os._exit(1)
                        if attempt(udp(), ('127.0.0.1', 9)) != 'ok': os._exit(2)
                    os._exit(0)
                for _ in range(50):
                    assert attempt(udp(), ('127.0.0.1', 9)) == 'ok'
                print(os.waitpid(child, 0)[1])
                """,
                prints: "0")
        }

        @Test func aThreadThatMovesOn() throws {
            try expect(
                """
                libc = ctypes.CDLL(None)
                open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('41000 41003')
                old = [udp() for _ in range(5)]
                assert libc.unshare(0x40000000) == 0
                os.system('ip link set lo up')
                open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('43000 43001')
                new = [udp() for _ in range(3)]
                to = ('127.0.0.1', 9)
                # In turn: the sockets of two namespaces, from one thread.
                print([attempt(s, to) for pair in zip(old, new) for s in pair], [attempt(s, to) for s in old[3:]])
                print(sorted(s.getsockname()[1] for s in old[:4]), sorted(s.getsockname()[1] for s in new[:2]))
                """,
                prints: """
                    ['ok', 'ok', 'ok', 'ok', 'ok', 'EAGAIN'] ['ok', 'EAGAIN']
                    [41000, 41001, 41002, 41003] [43000, 43001]
                    """)
        }

        /// Without the right to enter the socket's namespace its port is not shared.
        @Test func aNamespaceThatCannotBeEntered() throws {
            try expect(
                """
                libc = ctypes.CDLL(None)
                old = udp()
                assert libc.unshare(0x40000000) == 0
                os.setuid(65534)
                print(attempt(old, ('127.0.0.1', 9)), old.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
                """,
                prints: "ok 0")
        }

        /// A filter that answers socket(AF_NETLINK, …) with EPERM, as sandboxes do.
        @Test func netlinkIsRefused() throws {
            try expect(
                denial + """
                    deny(41, 198, argument=(0, 16))
                    a, b = udp(), udp()
                    print(attempt(a, ('127.0.0.1', 9)), a.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), a.getsockname()[1] > 0)
                    print(attempt(b, ('127.0.0.1', 9), ('127.0.0.1', a.getsockname()[1])), b.getsockopt(0, 24), attempt(b, ('127.0.0.1', 9), ('127.0.0.1', 0)))
                    print(attempt(tcp(), ('127.0.0.1', 9)))
                    """,
                prints: "ok 0 True\nEADDRINUSE 0 ok\nECONNREFUSED")
        }

        /// A TCP socket whose connect is refused loses its address again; a port that was named
        /// stays, as after bind(2), and is shared.
        @Test func whatARefusedSocketKeeps() throws {
            try expect(
                """
                for port in (0, 42000):
                    s = tcp(); said = attempt(s, ('127.0.0.1', 9), ('127.0.0.1', port))
                    print(said, s.getsockname(), s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
                """,
                prints: """
                    ECONNREFUSED ('0.0.0.0', 0) 0
                    ECONNREFUSED ('127.0.0.1', 42000) 1
                    """)
        }

        /// Before Linux 6.3 there was no IP_LOCAL_PORT_RANGE, with which the kernel itself keeps
        /// off reserved ports.
        private let withoutPortRanges =
            denial
            + "for call in (54, 208), (55, 209): deny(*call, argument=(2, 51), error=errno.ENOPROTOOPT)\n"

        @Test func aPortIsBoundToAsItIsNamed() throws {
            try expect(
                withoutPortRanges + """
                    to, mine, held = ('127.0.0.1', 9), ('127.0.0.1', 42000), [udp() for _ in range(3)]
                    print([attempt(s, to, source) for s, source in zip(held, (mine, mine, ('127.0.0.1', 0)))])
                    """,
                prints: "['ok', 'EADDRINUSE', 'ok']")
        }

        /// More than a page of them: the last are not forgotten.
        @Test func manyReservedPorts() throws {
            try expect(
                withoutPortRanges + """
                    ports = '/proc/sys/net/ipv4/ip_local_'
                    open(ports + 'port_range', 'w').write('43000 43003')
                    apart = [str(port) for port in range(30001, 32000, 2)]
                    open(ports + 'reserved_ports', 'w').write(','.join(apart + ['43001-43002']))
                    held = [udp() for _ in range(3)]
                    print([attempt(s, ('127.0.0.1', 9)) for s in held], sorted(s.getsockname()[1] for s in held))
                    """,
                prints: "['ok', 'ok', 'EAGAIN'] [0, 43000, 43003]")
        }

        /// What is kept between calls is bounded, and no call adds to it.
        @Test func descriptorsAreBounded() throws {
            try expect(
                """
                import threading
                def work():
                    for _ in range(100):
                        s = udp(); attempt(s, ('127.0.0.1', 9)); s.close()
                        s = udp(); attempt(s, ('127.0.0.1', 9), ('127.0.0.1', 42000)); s.close()
                before = len(os.listdir('/proc/self/fd'))
                threads = [threading.Thread(target=work) for _ in range(20)]
                for t in threads: t.start()
                for t in threads: t.join()
                print(len(os.listdir('/proc/self/fd')) - before <= 8 * 7)
                """,
                prints: "True")
        }

        // MARK: - Guards come and go

        /// The library notices within a second that the guard it relied on is gone.
        @Test func aGuardThatGoes() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let program = try python(
                    sandbox,
                    """
                    to, mine = ('127.0.0.1', 9), ('127.0.0.1', 42000)
                    holder = udp(); print(attempt(holder, to, mine), flush=True)
                    print(attempt(udp(), to, mine), flush=True)
                    until = time.time() + 300
                    while os.path.exists('\(sandbox.state.folder)') and time.time() < until: time.sleep(0.02)
                    print(os.path.exists('\(sandbox.state.folder)'), flush=True)
                    time.sleep(1.2)
                    plain = udp(); plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    plain.bind(('127.0.0.1', 42001)); plain.connect(to)
                    print(attempt(udp(), to, ('127.0.0.1', 42001)), attempt(udp(), to, mine), flush=True)
                    """, in: sandbox.cgroup)
                #expect(eventually { program.outputSoFar.split(separator: "\n").count == 2 })
                try sandbox.state.detachAll()
                let outcome = program.wait()
                #expect(
                    outcome.output == "ok\nEADDRINUSE\nFalse\nEADDRINUSE EADDRINUSE\n",
                    "\(outcome.output)\(outcome.errors)"
                )
            }
        }
    }
}

extension TestSocket {
    /// Sends the next datagram back to where it came from, and returns it.
    fileprivate func answer() -> String? {
        var buffer = [UInt8](repeating: 0, count: 256)
        var name = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                let size = recvfrom(descriptor, &buffer, buffer.count, 0, name, &length)
                guard size >= 0, sendto(descriptor, buffer, size, 0, name, length) == size else {
                    return nil
                }
                return String(decoding: buffer[..<size], as: UTF8.self)
            }
        }
    }
}
