// SPDX-License-Identifier: Apache-2.0
// libconnectx for every C program: old dialects, old C libraries, static ones.

import Foundation
import Glibc
import Testing
import TupleguardTestSupport

extension IntegrationTests.ConnectxFromC {
    /// Builds a C program with a compiler's command line, runs it, and expects what it prints.
    private func build(
        _ program: String, _ command: String, prints expected: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try withTemporaryFolder { work in
            try Sandbox.run { sandbox in
                let folder = try ConnectxLibrary.folder
                let path = work + "/caller"
                try makeFile(path + ".c", program)
                let build = try sandbox.command(
                    "/bin/sh",
                    [
                        "-c",
                        "exec \(command) -I'\(folder)/include' '\(path).c' -o '\(path)' -L'\(folder)/lib' $LIBRARIES",
                    ],
                    environment: [
                        "LIBRARIES": command.contains("-static")
                            ? "-l:libconnectx.a -pthread" : "-lconnectx"
                    ])
                #expect(build.status == 0, "\(build.errors)", sourceLocation: sourceLocation)
                let outcome = try sandbox.command(
                    path, [], environment: ["LD_LIBRARY_PATH": folder + "/lib"])
                #expect(
                    outcome.output == expected, "\(outcome.errors)", sourceLocation: sourceLocation)
            }
        }
    }

    private static let caller = """
        #include <arpa/inet.h>
        #include <connectx.h>
        #include <netinet/in.h>
        #include <stdio.h>
        #include <string.h>
        int (*function)(int, const sa_endpoints_t *, sae_associd_t, unsigned int, const struct iovec *,
                        unsigned int, size_t *, sae_connid_t *) = &connectx;
        int main(void)
        {
            struct sockaddr_in to;
            sa_endpoints_t endpoints;
            int udp = socket(AF_INET, SOCK_DGRAM, 0);
            memset(&to, 0, sizeof(to));
            memset(&endpoints, 0, sizeof(endpoints));
            to.sin_family = AF_INET;
            to.sin_port = htons(9);
            inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
            endpoints.sae_dstaddr = (struct sockaddr *)&to;
            endpoints.sae_dstaddrlen = sizeof(to);
            printf("%d", function(udp, &endpoints, SAE_ASSOCID_ANY, 0, NULL, 0, NULL, NULL));
            printf(" %d\\n", disconnectx(udp, SAE_ASSOCID_ALL, SAE_CONNID_ALL));
            return 0;
        }
        """

    @Test(
        arguments: [
            "clang -std=c89 -pedantic-errors -Wall -Wextra -Werror",
            "clang -x c++ -std=c++98 -pedantic-errors -Wall -Wextra -Werror",
            "clang -O2 -fno-pic -no-pie", "clang -static",
        ])
    func everyProgramCanCall(_ command: String) throws {
        try build(Self.caller, command, prints: "0 0\n")
    }

    /// A static program of another C library (scripts/setup installs it for the tests).
    @Test(
        .enabled(
            if: access("/usr/bin/musl-gcc", X_OK) == 0,
            "there is no musl-gcc (apt install musl-tools)"))
    func muslProgramsCanCall() throws {
        try build(Self.caller, "musl-gcc -static", prints: "0 0\n")
    }

    /// glibc 2.34 is the one that every supported distribution has, or a newer.
    @Test func noNewerLibc() throws {
        try Sandbox.run { sandbox in
            let symbols = try sandbox.command(
                "/usr/bin/objdump", ["--dynamic-syms", try ConnectxLibrary.path])
            let minors = symbols.output.split { !"GLIBC_.0123456789".contains($0) }
                .filter { $0.hasPrefix("GLIBC_2.") }
                .compactMap { Int($0.split(separator: ".")[1]) }
            #expect(!minors.isEmpty)
            #expect(minors.max() ?? 99 <= 34, "\(symbols.output)")
        }
    }

    /// The archive has no name that could be a program's own.
    @Test func theArchiveShowsOnlyItsFunctions() throws {
        try Sandbox.run { sandbox in
            let archive = try ConnectxLibrary.folder + "/lib/libconnectx.a"
            let symbols = try sandbox.command(
                "/usr/bin/nm", ["--extern-only", "--defined-only", archive])
            let names = symbols.output.split(separator: "\n")
                .filter { $0.contains(" T ") || $0.contains(" D ") || $0.contains(" B ") }
                .compactMap { $0.split(separator: " ").last }
            #expect(names.sorted() == ["connectx", "disconnectx"])
        }
    }

    // MARK: - Edges of the two functions

    /// What is not connected stays what it is: a listening socket goes on listening.
    @Test func disconnectingWhatIsNotConnected() throws {
        try expect(
            """
            def disconnect(s):
                if connectx._library.disconnectx(s.fileno(), 0, 0) == 0: return 'ok'
                return errno.errorcode[ctypes.get_errno()]
            listener = tcp(); listener.bind(('127.0.0.1', 50001)); listener.listen()
            bound = udp(); bound.bind(('127.0.0.1', 50002))
            print(disconnect(listener), listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
                  disconnect(bound), bound.getsockname()[1], disconnect(tcp()))
            one = tcp(); connectx.connect(one, ('127.0.0.1', 50001))
            filled = [tcp() for _ in range(200)]
            for s in filled: s.setblocking(False); attempt(s, ('127.0.0.1', 50001))
            print(disconnect(one), disconnect(filled[-1]))
            """, prints: "ENOTCONN 1 ENOTCONN 50002 ENOTCONN\nok ok")
    }

    /// A named port that others are at: who does not block is told at once, and so is who asks for
    /// that; else it is tried again, and the thread sleeps between.
    @Test func aContendedPort() throws {
        try expect(
            """
            waits = udp(); waits.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); waits.bind(('127.0.0.1', 42000))
            def sleeps():
                lines = open('/proc/thread-self/status').read().splitlines()
                return int(next(l for l in lines if l.startswith('voluntary_ctxt')).split()[1])
            def try_it(blocks, flags):
                s = udp(); s.setblocking(blocks); before = sleeps()
                result = attempt(s, ('127.0.0.1', 9), ('127.0.0.1', 42000), flags=flags)
                return result, sleeps() - before > 20
            print(try_it(True, 0), try_it(True, 0x10000), try_it(False, 0))
            """,
            prints: "('EADDRINUSE', True) ('EADDRINUSE', False) ('EADDRINUSE', False)")
    }

    /// A flow label that the caller gives is the connection's.
    @Test func flowLabelsAreKept() throws {
        try expect(
            """
            open('/proc/sys/net/ipv6/flowlabel_consistency', 'w').write('0')
            listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); listener.bind(('::1', 50001)); listener.listen()
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                s = socket.socket(socket.AF_INET6, kind); s.setsockopt(41, 33, 1)
                connectx.connect(s, ('::1', 50001, 0x12345, 0)); print(hex(s.getpeername()[2]))
            """, prints: "0x12345\n0x12345")
    }
}
