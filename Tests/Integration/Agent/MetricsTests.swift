// SPDX-License-Identifier: Apache-2.0
// Metrics as whoever scrapes them meets them, and whoever means harm.

import Glibc
import Testing
import TupleguardKernel
import TupleguardSockets
import TupleguardTestSupport

extension Sandbox {
    /// What a Python script in this namespace prints.
    fileprivate func python(_ script: String) throws -> String {
        let outcome = try command("/usr/bin/env", ["python3", "-c", script])
        #expect(outcome.status == 0, "\(outcome.errors)")
        return outcome.output
    }

    /// An agent that serves metrics on port 9469.
    fileprivate func startServer(_ more: String...) throws -> RunningProgram {
        let agent = try startAgent(["--metrics", "127.0.0.1:9469"] + more)
        endWithSandbox(agent)
        #expect(agent.errorsSoFar.contains("metrics at http://127.0.0.1:9469/metrics"))
        return agent
    }

    fileprivate func scrape(accepting format: String = "*/*") throws -> String {
        try python(
            """
            import urllib.request as r
            q = r.Request('http://127.0.0.1:9469/metrics', headers={'Accept': '\(format)'})
            with r.urlopen(q, timeout=60) as a: print(a.headers['Content-Type']); print(a.read().decode())
            """)
    }

    fileprivate func collide(port: UInt16) throws {
        let a = try socket(bound: "127.0.0.1:\(port)")
        let b = try socket(bound: "127.0.0.1:\(port)")
        #expect(a.connect("127.0.0.1:53") == nil)
        #expect(b.connect("127.0.0.1:53") == "EPERM")
    }
}

extension IntegrationTests {
    @Suite struct Metrics {
        @Test func tellWhatTheGuardDid() throws {
            try Sandbox.run { sandbox in
                _ = try sandbox.startServer()
                for port in UInt16(40_000)..<40_003 { try sandbox.collide(port: port) }
                let path = sandbox.cgroup.path
                let text = try sandbox.scrape()
                #expect(text.hasPrefix("text/plain; version=0.0.4"))
                for line in [
                    #"tupleguard_connects_refused_total{reason="held",cgroup="\#(path)"} 3"#,
                    #"tupleguard_connects_claimed_total{cgroup="\#(path)"} 3"#,
                    "tupleguard_claims_capacity 65536",
                    "tupleguard_guarded_cgroups 1", "tupleguard_agent_running 1",
                ] {
                    #expect(text.contains("\n\(line)\n"), "\(line)\n\(text)")
                }
                // Sockets of others, outside every guarded cgroup, have claims as well.
                let claims = try #require(text.firstMatch(of: /\ntupleguard_claims (\d+)\n/)).1
                #expect(try #require(Int(claims)) >= 3)
            }
        }

        @Test func tellThePortsInUseToADestination() throws {
            try Sandbox.run { sandbox in
                for port in UInt16(40_000)..<40_003 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:\(port)")
                    #expect(socket.connect("127.0.0.1:53") == nil)
                }
                let text = try sandbox.tupleguard("metrics", "--namespace", "self").output
                let labels =
                    #"{protocol="udp",source="127.0.0.1",destination="127.0.0.1:53"}"#
                #expect(text.contains("\ntupleguard_ports_used\(labels) 3\n"), "\(text)")
                #expect(text.contains("\ntupleguard_ports_available\(labels) 28229\n"), "\(text)")
            }
        }

        @Test func comeInTheFormatThatIsAskedFor() throws {
            try Sandbox.run { sandbox in
                _ = try sandbox.startServer()
                let text = try sandbox.scrape(accepting: "application/openmetrics-text")
                #expect(text.hasPrefix("application/openmetrics-text; version=1.0.0"))
                #expect(text.contains("\n# EOF\n"))
                #expect(text.contains("# TYPE tupleguard_connects_refused counter\n"))
            }
        }

        @Test func theCommandPrintsThemWithoutAnAgent() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(Policy())
                try sandbox.collide(port: 40_000)
                let outcome = try sandbox.tupleguard("metrics")
                #expect(outcome.status == 0)
                #expect(
                    outcome.output.contains(#"reason="held",cgroup="\#(sandbox.cgroup.path)"} 1"#))
                #expect(outcome.output.contains("tupleguard_agent_running 0\n"))
                #expect(outcome.output.contains("tupleguard_guarded_cgroups 1\n"))
            }
        }

        /// Each would be a time series of its own.
        @Test func noEphemeralPortBecomesALabel() throws {
            try Sandbox.run { sandbox in
                let sockets = try (0..<3).map { index in
                    let socket = try sandbox.socket(bound: "127.0.0.1:\(40_000 + index)")
                    #expect(socket.connect("127.0.0.1:\(50_000 + index)") == nil)
                    return socket
                }
                let text = try sandbox.tupleguard("metrics", "--namespace", "self").output
                #expect(text.contains(#"destination="127.0.0.1:ephemeral"} 1"#))
                #expect(!text.contains(":5000"))
                for socket in sockets { sandbox.close(socket) }
            }
        }

        @Test func overshadowedSocketsAreCounted() throws {
            try Sandbox.run { sandbox in
                for _ in 0..<3 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:40000")
                    #expect(socket.connect("127.0.0.1:53") == nil)
                }
                let text = try sandbox.tupleguard("metrics", "--namespace", "self").output
                #expect(text.contains("\ntupleguard_shadowed_sockets 2\n"))
            }
        }

        // MARK: - The server

        @Test func nothingElseIsServed() throws {
            try Sandbox.run { sandbox in
                _ = try sandbox.startServer()
                let answers = try sandbox.python(
                    """
                    import http.client
                    for method, path in [('GET', '/'), ('GET', '/summary'), ('GET', '/events'),
                                         ('GET', '/metrics/../summary'), ('POST', '/metrics')]:
                        c = http.client.HTTPConnection('127.0.0.1', 9469, timeout=60)
                        c.request(method, path); print(c.getresponse().status)
                    """)
                #expect(answers.split(separator: "\n") == ["404", "404", "404", "404", "405"])
            }
        }

        @Test func aUnixSocketServesToo() throws {
            try Sandbox.run { sandbox in
                let path = "\(sandbox.runFolder)-metrics.sock"
                defer { unlink(path) }
                let agent = try sandbox.startServer("--metrics", path)
                let ask = """
                    import socket
                    s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect('\(path)')
                    s.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n')
                    print(b''.join(iter(lambda: s.recv(65536), b'')).decode())
                    """
                #expect(try sandbox.python(ask).contains("\ntupleguard_agent_running 1\n"))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                #expect(access(path, F_OK) != 0)
            }
        }

        @Test func connectionsThatAreHeldKeepNobodyFromScraping() throws {
            try Sandbox.run { sandbox in
                _ = try sandbox.startServer()
                let text = try sandbox.python(
                    """
                    import socket, urllib.request as r
                    held = [socket.create_connection(('127.0.0.1', 9469)) for _ in range(300)]
                    for s in held[::2]:
                        try: s.send(b'GET /met')
                        except OSError: pass
                    print(r.urlopen('http://127.0.0.1:9469/metrics', timeout=60).status)
                    """)
                #expect(text == "200\n")
            }
        }

        @Test func whoSaysNothingOrNonsenseIsCutOff() throws {
            try Sandbox.run { sandbox in
                _ = try sandbox.startServer()
                let text = try sandbox.python(
                    """
                    import socket
                    def connect():
                        s = socket.create_connection(('127.0.0.1', 9469)); s.settimeout(120); return s
                    def ends(s):
                        try:
                            while s.recv(65536): pass
                        except ConnectionResetError: pass
                        return True
                    silent, slow, header, noise = connect(), connect(), connect(), connect()
                    slow.send(b'GET /metrics HTTP/1.1\\r\\nA: ')
                    noise.send(b'\\x00\\xff' * 5000)
                    try:
                        header.send(b'GET /metrics HTTP/1.1\\r\\n')
                        for _ in range(2000): header.send(b'X: ' + b'y' * 1000 + b'\\r\\n')
                    except OSError: pass
                    print(all(ends(s) for s in [silent, slow, header, noise]))
                    """)
                #expect(text == "True\n")
                #expect(try sandbox.scrape().contains("tupleguard_agent_running 1"))
            }
        }

        @Test func anAddressThatIsTakenIsAnErrorOfTheStart() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.lastingCondition("serve(9469)")
                let outcome = try sandbox.tupleguard(
                    "run", "--cgroup", sandbox.cgroup.folder, "--metrics", "127.0.0.1:9469")
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("cannot serve metrics at 127.0.0.1:9469"))
                #expect(outcome.errors.contains("--metrics"))
                server.end()
            }
        }

        @Test(arguments: ["9469", "localhost:9469", "127.0.0.1:99999", "", "relative.sock"])
        func anAddressThatIsNoneIsAUsageError(address: String) throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard(
                    "run", "--cgroup", sandbox.cgroup.folder, "--metrics", address)
                #expect(outcome.status == 64)
            }
        }
    }
}
