// SPDX-License-Identifier: Apache-2.0
// Processes that bring a network namespace into a condition, and keep it there.

import Glibc
import Testing
import TupleguardKernel
import TupleguardLinux
import TupleguardTestSupport

extension Sandbox {
    /// A Python process in this namespace that has said "up" and waits to be ended.
    func condition(_ script: String, in cgroup: Cgroup? = nil) throws -> RunningProgram {
        let process = try start(
            "/usr/bin/env", ["python3", "-c", Self.prelude + script + Self.wait], in: cgroup)
        #expect(
            eventually { process.outputSoFar.contains("up") || !process.isRunning },
            "\(process.errorsSoFar)")
        #expect(process.isRunning, "\(process.errorsSoFar)")
        return process
    }

    /// The same, ended with the sandbox if not before.
    func lastingCondition(_ script: String, in cgroup: Cgroup? = nil) throws -> RunningProgram {
        let process = try condition(script, in: cgroup)
        endWithSandbox(process)
        return process
    }

    private static let prelude = """
        import os, resource, socket, sys, time
        keep = []
        def serve(*ports):
            for port in ports:
                server = socket.socket()
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(('127.0.0.1', port)); server.listen(4096); keep.append(server)
        def connect(port, source=None, without_port=False):
            client = socket.socket()
            if without_port: client.setsockopt(socket.IPPROTO_IP, 24, 1)
            if source: client.bind((source, 0))
            client.connect(('127.0.0.1', port)); keep.append(client)
            return client
        def udp(local, remote, host='127.0.0.1'):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(('127.0.0.1', local)); client.connect((host, remote)); keep.append(client)
            return client

        """

    private static let wait = "\nprint('up', flush=True)\ntime.sleep(600)\n"
}

/// Ends a process with the scope.
func ending(_ process: RunningProgram, _ body: () throws -> Void) rethrows {
    defer { process.end() }
    try body()
}
