// SPDX-License-Identifier: Apache-2.0
// What connectx makes of arguments and sockets that are no good: a typed error,
// and no descriptor lost.

import CTupleguardLinux
import Connectx
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

extension IntegrationTests {
    @Suite struct ConnectxInput {
        private let to = Kind.udp4.endpoint(9)

        /// The error of a call, with the sockets that this process has open before and after it:
        /// they are the same ones.
        private func refused(
            _ body: () throws(ConnectError) -> Void,
            sourceLocation: SourceLocation = #_sourceLocation
        ) -> ConnectError? {
            // What is kept between calls is made by the first.
            _ = failure { () throws(ConnectError) in _ = try Connectx.connectBlocking(.udp, to: to)
            }
            return failure(body)
        }

        private func socketOf(_ family: Int32, _ type: __socket_type, _ number: Int32 = 0) throws
            -> OwnedDescriptor
        {
            try OwnedDescriptor {
                socket(family, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), number)
            }
        }

        private func expect(
            _ reason: ConnectError.Reason, _ number: Int32, on socket: Int32,
            to destination: Endpoint? = nil, from source: Source = .any,
            sourceLocation: SourceLocation = #_sourceLocation
        ) {
            let error = refused { () throws(ConnectError) in
                _ = try connectOwn(socket, to: destination ?? to, from: source)
            }
            #expect(error?.reason == reason, sourceLocation: sourceLocation)
            #expect(error?.errno == number, sourceLocation: sourceLocation)
        }

        @Test func socketsOfOtherKinds() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let unix = try socketOf(AF_UNIX, SOCK_STREAM)
                    expect(.unsupportedSocket, EOPNOTSUPP, on: unix.raw)
                    let raw = try socketOf(AF_INET, SOCK_RAW, Int32(IPPROTO_UDP))
                    expect(.unsupportedSocket, EOPNOTSUPP, on: raw.raw)
                    // UDP-Lite, which Linux 7.2 no longer has.
                    do {
                        let lite = try socketOf(AF_INET, SOCK_DGRAM, 136)
                        expect(.unsupportedSocket, EOPNOTSUPP, on: lite.raw)
                    } catch let error as Errno where error.number == EPROTONOSUPPORT {
                        // Not to be had, so not to be mistaken.
                    }
                    let file = try OwnedDescriptor(path: "/dev/null", flags: O_RDONLY)
                    expect(.badDescriptor, ENOTSOCK, on: file.raw)
                    expect(.badDescriptor, EBADF, on: -1)
                    expect(.badDescriptor, EBADF, on: 1_000_000)
                }
            }
        }

        @Test func familiesThatDiffer() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let v4 = try rawSocket(.udp4)
                    let v6 = Kind.udp6.endpoint(9)
                    expect(.familyMismatch, EAFNOSUPPORT, on: v4.raw, to: v6)
                    let source = Source(Kind.udp6.endpoint(42_000))
                    expect(.familyMismatch, EAFNOSUPPORT, on: v4.raw, from: source)
                    let tcp = try rawSocket(.tcp4)
                    expect(.familyMismatch, EAFNOSUPPORT, on: tcp.raw, to: v6)
                }
            }
        }

        @Test(arguments: Kind.allCases)
        func portsAndAddressesThatAreNone(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let socket = try rawSocket(kind)
                    let here = kind.endpoint(9)
                    expect(.invalidArgument, EINVAL, on: socket.raw, to: .init(kind.endpoint(0)))
                    expect(
                        .invalidArgument, EINVAL, on: socket.raw, to: here,
                        from: Source(address: kind.loopback, port: 0))
                    let foreign = IPAddress(kind.isIPv6 ? "2001:db8::7" : "198.51.100.7")!
                    expect(
                        .sourceNotLocal, EADDRNOTAVAIL, on: socket.raw, to: here,
                        from: Source(address: foreign))
                    expect(
                        .sourceNotLocal, EADDRNOTAVAIL, on: socket.raw, to: here,
                        from: Source(address: foreign, port: 42_000))
                    let nowhere = Endpoint(foreign, 9)
                    expect(.noRoute, ENETUNREACH, on: socket.raw, to: nowhere)
                    let name = try Endpoint { getsockname(socket.raw, $0, $1) }
                    #expect(name.address.isAny && name.port == 0)
                }
            }
        }

        @Test func connectedSockets() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let udp = try Connectx.connectBlocking(.udp, to: to)
                    expect(.alreadyConnected, EISCONN, on: udp.descriptor.raw)
                    let server = try EchoServer(.tcp4, port: 50_001)
                    let tcp = try Connectx.connectBlocking(.tcp, to: server.endpoint)
                    expect(
                        .alreadyConnected, EISCONN, on: tcp.descriptor.raw,
                        to: server.endpoint)
                }
            }
        }

        @Test func noPortMayBeChosen() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41009")
                    try setIP("ip_local_reserved_ports", "41000-41009")
                    let udp = try rawSocket(.udp4)
                    expect(.exhausted, EAGAIN, on: udp.raw)
                    // The kernel gives reserved ports to those who name them.
                    let named = Source(Kind.udp4.endpoint(41_005))
                    #expect(try connectOwn(udp.raw, to: to, from: named).technique == .lock)
                }
            }
        }

        @Test func firstDataThatIsEmpty() throws {
            var options = Connectx.Options()
            options.firstData = .fastOpen([])
            let error = refused { () throws(ConnectError) in
                _ = try Connectx.connectBlocking(.tcp, to: to, options: options)
            }
            #expect(error?.reason == .invalidArgument)
            #expect(error?.errno == EINVAL)
        }

        @Test func privilegedPortsAreForThePrivileged() throws {
            try Sandbox.run { sandbox in
                let program = Sandbox.program("tupleguard")
                let line = ["connect", "udp", "127.0.0.1:600", "127.0.0.1:9", "--count", "1"]
                let outcome = try sandbox.command(program, line, asNobody: true)
                #expect(outcome.status == 1)
                #expect(outcome.output.contains("(EACCES)"))
                #expect(outcome.output.contains("ip_unprivileged_port_start"))
            }
        }

        /// With descriptors for one socket only, and then for some of what a call needs.
        @Test func descriptorsRunOut() throws {
            try Sandbox.run { sandbox in
                let program = Sandbox.program("tupleguard")
                for limit in 4...40 {
                    let outcome = try sandbox.command(
                        "/bin/sh",
                        [
                            "-c",
                            "ulimit -n \(limit); exec \(program) connect udp 127.0.0.1:9 --count 100 --json",
                        ])
                    let isTold =
                        outcome.output.contains(#""errno":"EMFILE","error":"out_of_resources""#)
                    // A crash would have another status.
                    #expect(isTold && outcome.status == 1, "\(limit): \(outcome)")
                }
            }
        }

        @Test func refusalsLoseNoDescriptor() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41003")
                    let server = try EchoServer(.tcp4, port: 50_001)
                    let held = Held()
                    let source = Source(Kind.udp4.endpoint(42_000))
                    func all() -> Set<String> {
                        _ = held.fill(.udp, to: Kind.udp4.endpoint(9))
                        _ = held.fill(.tcp, to: server.endpoint)
                        for _ in 0..<20 {
                            _ = failure { () throws(ConnectError) in
                                _ = try Connectx.connectBlocking(.udp, to: to, from: source)
                            }
                            _ = failure { () throws(ConnectError) in
                                _ = try Connectx.connectBlocking(.udp, to: Endpoint("192.0.2.1:1")!)
                            }
                        }
                        return socketInodes()
                    }
                    let once = all()
                    #expect(all() == once)
                }
            }
        }

        /// Sockets of the calling thread's network namespace that this process has open.
        private func socketInodes() -> Set<String> {
            let known = Set(
                ["tcp", "udp", "netlink"].flatMap { table -> [String] in
                    (contents(of: "/proc/thread-self/net/\(table)") ?? "").split(separator: "\n")
                        .flatMap { $0.split(separator: " ").map(String.init) }
                })
            return Set(
                names(in: "/proc/self/fd").compactMap { name -> String? in
                    var buffer = [CChar](repeating: 0, count: 64)
                    guard readlink("/proc/self/fd/\(name)", &buffer, 63) > 0 else { return nil }
                    let link = String(
                        decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
                        as: UTF8.self)
                    guard link.hasPrefix("socket:[") else { return nil }
                    let inode = String(link.dropFirst(8).dropLast())
                    return known.contains(inode) ? inode : nil
                })
        }
    }
}
