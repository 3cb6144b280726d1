// SPDX-License-Identifier: Apache-2.0
// `tupleguard connect` as netcat: both directions at once, each with an end of its own.

import Testing
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct RelayTests {
        /// What the servers and clients below have in common: `serve` runs a server for one
        /// connection, `client` the command, with `size` bytes that are all of the input.
        private static let prelude = """
            import os, socket, subprocess, sys, threading
            size = 8 << 20
            def serve(body):
                listener = socket.create_server(("127.0.0.1", 0))
                def run():
                    with listener.accept()[0] as connection: body(connection)
                thread = threading.Thread(target=run, daemon=True); thread.start()
                return "127.0.0.1:%d" % listener.getsockname()[1], thread
            def receive_all(connection):
                count = 0
                while piece := connection.recv(1 << 16): count += len(piece)
                return count
            def client(to, *options, **how):
                return subprocess.run([sys.argv[1], "connect", "tcp", to, *options], timeout=300, **how)

            """

        private func run(_ script: String) throws -> String {
            var output = ""
            try Sandbox.run { sandbox in
                let outcome = try sandbox.command(
                    "/usr/bin/python3",
                    ["-c", Self.prelude + script, Sandbox.program("tupleguard")])
                #expect(outcome.status == 0, "\(outcome.errors)")
                output = outcome.output
            }
            return output
        }

        @Test("A server that answers more than it reads is read from while it is written to")
        func bothWaysAtOnce() throws {
            let output = try run(
                """
                def twice(connection):
                    while piece := connection.recv(1 << 16): connection.sendall(piece + piece)
                to, _ = serve(twice)
                print(len(client(to, input=b"x" * size, stdout=subprocess.PIPE).stdout) // size)
                """)
            #expect(output == "2\n")
        }

        @Test("A server that has said all takes the rest of the input")
        func theServerHalfCloses() throws {
            let output = try run(
                """
                counts = []
                def listen_only(connection):
                    connection.sendall(b"welcome")
                    connection.shutdown(socket.SHUT_WR)
                    counts.append(receive_all(connection))
                to, thread = serve(listen_only)
                done = client(to, input=b"x" * size, stdout=subprocess.PIPE)
                thread.join()
                print(done.returncode, done.stdout.decode(), counts[0] == size)
                """)
            #expect(output == "0 welcome True\n")
        }

        @Test("A closed input is an empty one: the server's answer comes all the same")
        func theInputIsClosed() throws {
            let output = try run(
                """
                def answer(connection):
                    connection.sendall(b"x" * size)
                    receive_all(connection)
                to, _ = serve(answer)
                command = '"$0" connect tcp "$1" <&-'
                done = subprocess.run(["/bin/sh", "-c", command, sys.argv[1], to],
                                      stdout=subprocess.PIPE, timeout=300)
                print(done.returncode, len(done.stdout) == size)
                """)
            #expect(output == "0 True\n")
        }

        @Test("An output that does not block loses nothing")
        func theOutputDoesNotBlock() throws {
            let output = try run(
                """
                def answer(connection):
                    connection.sendall(b"x" * size)
                to, _ = serve(answer)
                reader, writer = os.pipe()
                os.set_blocking(writer, False)
                counts = []
                def read_slowly():
                    count = 0
                    while piece := os.read(reader, 1000): count += len(piece)
                    counts.append(count)
                thread = threading.Thread(target=read_slowly); thread.start()
                done = client(to, stdin=subprocess.DEVNULL, stdout=writer)
                os.close(writer); thread.join()
                print(done.returncode, counts[0] == size)
                """)
            #expect(output == "0 True\n")
        }

        @Test("Of a name's addresses the next is tried when one refuses", arguments: [false, true])
        func aNameWithTwoAddresses(_ isIPv6: Bool) throws {
            let address = isIPv6 ? "::1" : "127.0.0.1"
            let output = try run(
                """
                import tempfile
                family = socket.AF_INET6 if \(isIPv6 ? "True" : "False") else socket.AF_INET
                listener = socket.create_server(("\(address)", 0), family=family)
                with tempfile.NamedTemporaryFile("w", suffix=".hosts") as hosts:
                    hosts.write("::1 both.test\\n127.0.0.1 both.test\\n"); hosts.flush()
                    command = 'mount --bind "$1" /etc/hosts && exec "$0" connect tcp "$2" -z --show'
                    done = subprocess.run(
                        ["unshare", "--mount", "/bin/sh", "-c", command, sys.argv[1], hosts.name,
                         "both.test:%d" % listener.getsockname()[1]], timeout=300, text=True,
                        stderr=subprocess.PIPE)
                print(done.returncode, "\(address)" in done.stderr)
                """)
            #expect(output == "0 True\n")
        }

        @Test("-z connects and ends; --idle-timeout ends what has gone quiet")
        func endings() throws {
            let output = try run(
                """
                to, thread = serve(lambda connection: print("received", receive_all(connection), flush=True))
                print(client(to, "-z", input=b"not sent").returncode); thread.join()
                to, thread = serve(lambda connection: receive_all(connection))
                reader, writer = os.pipe()
                print(client(to, "--idle-timeout", "0.2", stdin=reader).returncode)
                """)
            #expect(Set(output.split(separator: "\n")) == ["received 0", "0"])
        }
    }
}
