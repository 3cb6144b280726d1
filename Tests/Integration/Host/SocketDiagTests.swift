// SPDX-License-Identifier: Apache-2.0
// SOCK_DIAG against the kernel: what it lists, finds and ends, in a namespace of its own.

import CTupleguardLinux
import Glibc
import Testing
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct SocketDiags {
        /// Runs in the sandbox's network namespace, with a socket that asks there.
        private func ask<Result: Sendable>(
            _ sandbox: Sandbox,
            _ body: @escaping @Sendable (inout SocketDiag) throws -> Result
        ) throws -> Result {
            try NetworkNamespace.inside(path: "/proc/self/fd/\(sandbox.networkNamespace.raw)") {
                var diag = try SocketDiag()
                return try body(&diag)
            }
        }

        private static func list(
            _ diag: inout SocketDiag, _ family: Int32, _ filter: SocketDiag.Filter
        ) throws -> Set<SocketRecord> {
            var records: Set<SocketRecord> = []
            try withUnsafeTemporaryAllocation(byteCount: 32768, alignment: 8) { buffer in
                try diag.list(.udp, family: family, filter: filter, buffer: buffer) {
                    records.insert($0)
                }
            }
            return records
        }

        /// Connected and unconnected ones, to two places each, in each family.
        private func populate(_ sandbox: Sandbox) throws {
            for (kind, local, remotes) in [
                (Sandbox.Kind.v4, "127.0.0.1", ["127.0.0.2:53", "127.0.0.2:54", "127.0.0.3:53"]),
                (.v6, "[::1]", ["[::1]:53", "[::1]:54"]),
                (.v6, "[::ffff:127.0.0.1]", ["[::ffff:127.0.0.2]:53", "[::ffff:127.0.0.3]:53"]),
            ] {
                for (index, remote) in remotes.enumerated() {
                    for offset in 0..<20 {
                        let port = 5000 + index * 100 + offset + (kind == .v6 ? 1000 : 0)
                        let socket = try sandbox.socket(kind, bound: "\(local):\(port)")
                        #expect(socket.connect(remote) == nil)
                    }
                }
                _ = try sandbox.socket(kind, bound: "\(local):4000")
            }
        }

        @Test(arguments: ["127.0.0.2:53", "[::1]:54", "127.0.0.9:53", "[::2]:53"])
        func theKernelsFilterIsOurs(_ remote: String) throws {
            try Sandbox.run { sandbox in
                try populate(sandbox)
                let remote = try #require(Endpoint(remote))
                for family in [AF_INET, AF_INET6] {
                    let (all, filtered) = try ask(sandbox) { diag in
                        var filter = SocketDiag.Filter()
                        let all = try Self.list(&diag, family, filter)
                        filter.remoteOrUnconnected = remote
                        return (all, try Self.list(&diag, family, filter))
                    }
                    let expected = all.filter {
                        $0.tuple.remote == remote || $0.tuple.remote.port == 0
                    }
                    #expect(filtered == expected)
                    #expect(all.count == (family == AF_INET ? 61 : 82))
                    #expect(!expected.isEmpty && expected.count < all.count)
                }
            }
        }

        @Test func aFilterByStateIsTheKernelsToo() throws {
            try Sandbox.run { sandbox in
                try populate(sandbox)
                let connected = try ask(sandbox) { diag in
                    var filter = SocketDiag.Filter()
                    filter.states = 1 << 1
                    return try Self.list(&diag, AF_INET, filter)
                }
                #expect(connected.count == 60)
                #expect(connected.allSatisfy { $0.isConnected })
            }
        }

        @Test(arguments: [
            (Sandbox.Kind.v4, "127.0.0.1", "127.0.0.2:53", "127.0.0.3:53"),
            (.v6, "[::1]", "[::1]:53", "[::1]:54"),
            (.v6, "[::ffff:127.0.0.1]", "[::ffff:127.0.0.2]:53", "[::ffff:127.0.0.3]:53"),
        ])
        func whoWouldReceive(_ kind: Sandbox.Kind, _ local: String, _ to: String, _ other: String)
            throws
        {
            try Sandbox.run { sandbox in
                let connected = try sandbox.socket(kind, bound: "\(local):5000")
                #expect(connected.connect(to) == nil)
                let bound = try sandbox.socket(kind, bound: "\(local):5001")
                func receiver(_ port: UInt16, _ remote: String) throws -> SocketRecord? {
                    let local = try #require(Endpoint("\(local):\(port)"))
                    let remote = try #require(Endpoint(remote))
                    return try ask(sandbox) {
                        try $0.receiver(of: FourTuple(local: local, remote: remote))
                    }
                }
                let hit = try #require(try receiver(5000, to))
                #expect(hit.cookie == connected.cookie)
                #expect(hit.isConnected)
                #expect(hit.tuple.remote == Endpoint(to))
                #expect(hit.uid == 0)
                #expect(hit.cgroup == sandbox.cgroup.id)
                let unconnected = try #require(try receiver(5001, to))
                #expect(unconnected.cookie == bound.cookie)
                #expect(!unconnected.isConnected)
                #expect(try receiver(5000, other) == nil)
                #expect(try receiver(5002, to) == nil)
            }
        }

        @Test func theNamespaceAskedIsTheSocketsOwn() throws {
            try Sandbox.run { sandbox in
                let namespace = try NamespaceIdentity.of(sandbox.socket().descriptor)
                #expect(try ask(sandbox) { $0.namespace } == namespace)
                #expect(try SocketDiag().namespace != namespace)
            }
        }

        @Test func aSocketIsEnded() throws {
            try Sandbox.run { sandbox in
                let victim = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(victim.connect("127.0.0.2:53") == nil)
                let bystander = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(bystander.connect("127.0.0.3:53") == nil)
                let tuple = FourTuple(
                    local: Endpoint("127.0.0.1:5000")!, remote: Endpoint("127.0.0.2:53")!)
                let record = try ask(sandbox) { diag in
                    let record = try #require(try diag.receiver(of: tuple))
                    try diag.destroy(record, .udp)
                    return record
                }
                #expect(record.cookie == victim.cookie)
                var byte: UInt8 = 0
                #expect(recv(victim.descriptor, &byte, 1, Int32(MSG_DONTWAIT)) == -1)
                #expect(errno == ECONNABORTED)
                // It is connected no more; to what it was bound to, it still is.
                #expect(victim.remote == nil)
                #expect(bystander.remote == Endpoint("127.0.0.3:53"))
                let left = try ask(sandbox) { try $0.receiver(of: tuple) }
                #expect(left?.isConnected == false)
                sandbox.close(victim)
                #expect(throws: Errno(ENOENT)) {
                    try ask(sandbox) { try $0.destroy(record, .udp) }
                }
            }
        }
    }
}
