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

/// Python: `deny(x86_64, aarch64)` lets a system call, by its number on either machine, fail from
/// here on (seccomp(2)): any, or with `argument=(index, value)` only where it has that value.
let denial = """
    import ctypes, errno, os, platform, struct
    def deny(x86_64, aarch64, argument=None, error=errno.EPERM):
        libc = ctypes.CDLL(None, use_errno=True)
        number = x86_64 if platform.machine() == 'x86_64' else aarch64
        steps = [(0x20, 0, 0, 0), (0x15, 0, 3 if argument else 1, number)]
        if argument: steps += [(0x20, 0, 0, 16 + 8 * argument[0]), (0x15, 0, 1, argument[1])]
        steps += [(0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7fff0000)]
        code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *s) for s in steps))
        class Program(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('steps', ctypes.c_void_p)]
        filter = Program(len(steps), ctypes.addressof(code))
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0

    """

/// Ends a process with the scope.
func ending(_ process: RunningProgram, _ body: () throws -> Void) rethrows {
    defer { process.end() }
    try body()
}
