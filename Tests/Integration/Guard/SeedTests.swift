// SPDX-License-Identifier: Apache-2.0
// Seeding: who gets a claim without having passed a hook, and that nobody is passed over.

import Glibc
import Testing
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Seed {
        /// Connected sockets outside the guarded cgroup, each with a tuple of its own.
        private func connectOutsiders(
            _ count: Int, port: Int, in sandbox: Sandbox
        ) throws -> [TestSocket] {
            try (0..<count).map { index in
                let socket = try sandbox.socket(bound: "127.0.0.1:\(port)", in: sandbox.outside)
                #expect(socket.connect("127.0.0.1:\(6000 + index)") == nil)
                return socket
            }
        }

        @Test func outsidersAreSeededWhereGuardedSocketsAre() throws {
            try Sandbox.run { sandbox in
                try Sandbox.run { elsewhere in
                    var policy = Policy()
                    policy.outsiders = .ignore  // or they claim when they connect
                    try sandbox.attach(policy)
                    for namespace in [sandbox.networkNamespace.raw, elsewhere.networkNamespace.raw]
                    {
                        let outsider = try sandbox.socket(
                            bound: "127.0.0.1:5000", in: sandbox.outside, netns: namespace)
                        #expect(outsider.connect("127.0.0.1:6000") == nil)
                    }
                    let none = try sandbox.state.seed()
                    #expect(none.claimed == 0 && none.known == 0 && none.overShare == 0)
                    // It has neither a port nor a destination; that it could is enough.
                    let guarded = try sandbox.socket()
                    #expect(try sandbox.state.seed().claimed == 1)
                    #expect(
                        try sandbox.state.claims().map(\.networkNamespace)
                            == [UInt32(truncatingIfNeeded: guarded.networkNamespaceCookie)])
                }
            }
        }

        /// The processes of a guarded cgroup count as well as its sockets.
        @Test func outsidersAreSeededWhereGuardedProcessesAre() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                _ = try connectOutsiders(3, port: 5000, in: sandbox)
                let child = try sandbox.makeChild("child")
                let process = try sandbox.start("/bin/sleep", ["60"], in: child)
                defer {
                    process.signal(SIGKILL)
                    _ = process.wait()
                }
                let isSeeded = try eventually { try sandbox.state.seed().known == 3 }
                #expect(isSeeded)
            }
        }

        /// What counts as shared is what `conflicts` shows: outsiders may share among themselves.
        @Test(arguments: [false, true])
        func whatIsSharedIsCountedAsItIsReported(_ areGuarded: Bool) throws {
            try Sandbox.run { sandbox in
                let guarded = try sandbox.socket()  // or nobody looks at outsiders here
                let place = areGuarded ? sandbox.cgroup : sandbox.outside
                let sharing = try (0..<2).map { _ in
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000", in: place)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                let attached = try sandbox.tupleguard(
                    "attach", "--outermost", sandbox.top.folder, sandbox.cgroup.folder)
                #expect(attached.status == 0, "\(attached.errors)")
                let line =
                    "1 socket shares a tuple with another already: see `tupleguard conflicts`"
                #expect(attached.output.contains(line) == areGuarded, "\(attached.output)")
                #expect(attached.output.contains("a tuple with another") == areGuarded)
                #expect(try sandbox.state.conflicts().count == (areGuarded ? 1 : 0))
                let again = try sandbox.state.seed(again: true)
                #expect(again.conflicts == (areGuarded ? 1 : 0))
                #expect(again.known == (areGuarded ? 1 : 2))
                _ = (guarded, sharing)
            }
        }

        @Test func outsidersHaveAQuarterOfTheTable() throws {
            try Sandbox.run { sandbox in
                let outsiders = try connectOutsiders(40, port: 5000, in: sandbox)
                var guarded: [TestSocket] = []
                for index in 0..<40 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5001")
                    #expect(socket.connect("127.0.0.1:\(6000 + index)") == nil)
                    guarded.append(socket)
                }
                var policy = Policy()
                policy.outsiders = .ignore  // or they claim when they connect
                try sandbox.attach(policy, tableSize: 64)
                for pass in 0..<3 {
                    let seeded = try sandbox.state.seed()
                    #expect(seeded.claimed == (pass == 0 ? 56 : 0))
                    #expect(seeded.known == (pass == 0 ? 0 : 56))
                    #expect(seeded.overShare == 24)
                    #expect(seeded.unclaimed == 0)
                }
                let claims = try sandbox.claims()
                #expect(claims.count { $0.tuple.local.port == 5001 } == 40)
                #expect(claims.count { $0.tuple.local.port == 5000 } == 16)

                // What outsiders give back others may have: seeding sweeps first.
                for socket in outsiders { sandbox.close(socket) }
                _ = try connectOutsiders(20, port: 5002, in: sandbox)
                let isSeeded = try eventually {
                    try sandbox.state.seed()
                    return try sandbox.claims().count { $0.tuple.local.port == 5002 } == 16
                }
                #expect(isSeeded)
            }
        }

        /// Before 6.6 the iterator over a namespace's sockets loses its place when others go.
        @Test(arguments: [256, Seeder.pieceSize])
        func socketsThatGoMeanwhileHideNoOther(pieceSize: Int) throws {
            try Sandbox.run { sandbox in
                let script = """
                    import socket, sys, threading
                    def make(port, remote):
                        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        made.bind(('127.0.0.1', port))
                        made.connect(('127.0.0.1', remote))
                        return made
                    if sys.argv[1] == 'stay':
                        keep = [make(5000, 10000 + index) for index in range(1000)]
                        print('ready', flush=True)
                        threading.Event().wait()
                    while True:
                        for made in [make(5000, 20000 + index) for index in range(50)]:
                            made.close()
                    """
                let python = "/usr/bin/python3"
                let stay = try sandbox.start(
                    python, ["-c", script, "stay"], in: sandbox.cgroup)
                defer {
                    stay.signal(SIGKILL)
                    _ = stay.wait()
                }
                #expect(eventually { stay.outputSoFar.contains("ready") })
                let churn = try sandbox.start(
                    python, ["-c", script, "churn"], in: sandbox.outside)
                defer {
                    churn.signal(SIGKILL)
                    _ = churn.wait()
                }
                try sandbox.attach(tableSize: 4096)
                let seeder = try Seeder(sandbox.state)
                try seeder.begin(outsiders: false, again: false)
                #expect(try seeder.seedNamespaces(pieceSize: pieceSize).claimed == 1000)
                #expect(
                    try sandbox.claims().count { $0.tuple.remote.port < 20000 } == 1000)
            }
        }
    }
}
