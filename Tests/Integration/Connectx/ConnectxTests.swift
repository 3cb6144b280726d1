// SPDX-License-Identifier: Apache-2.0
// connectx as its callers see it: errno, ports, traffic, what is left on the socket.

import CTupleguardLinux
import Connectx
import Foundation
import Glibc
import Synchronization
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

/// The four kinds of connections.
enum Kind: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case udp4, udp6, tcp4, tcp6

    var transport: Transport { self == .udp4 || self == .udp6 ? .udp : .tcp }
    var isIPv6: Bool { self == .udp6 || self == .tcp6 }
    var family: Int32 { isIPv6 ? AF_INET6 : AF_INET }
    var type: Int32 {
        Int32(transport == .udp ? SOCK_DGRAM.rawValue : SOCK_STREAM.rawValue)
    }
    var loopback: IPAddress { isIPv6 ? IPAddress("::1")! : IPAddress("127.0.0.1")! }
    var host: String { isIPv6 ? "[::1]" : "127.0.0.1" }
    var testDescription: String { rawValue }

    /// What exhausted ports and a taken tuple are to give.
    var exhausted: Int32 { transport == .udp ? EAGAIN : EADDRNOTAVAIL }
    var conflict: Int32 { transport == .udp ? EADDRINUSE : EADDRNOTAVAIL }

    func endpoint(_ port: UInt16) -> Endpoint { Endpoint(loopback, port) }
}

/// A server that sends back what it gets, on a thread of the calling test.
final class EchoServer {
    let endpoint: Endpoint
    private let kind: Kind
    private let descriptor: OwnedDescriptor
    private var accepted: [Int32] = []

    init(_ kind: Kind, port: UInt16, anyAddress: Bool = false) throws {
        self.kind = kind
        let name = anyAddress ? Endpoint(.unspecified, port) : kind.endpoint(port)
        descriptor = try OwnedDescriptor {
            socket(kind.family, kind.type | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        let raw = descriptor.raw
        try Errno.check {
            name.withSocketAddress(family: kind.family) { bind(raw, $0, $1) }
        }
        if kind.transport == .tcp { try Errno.check { listen(raw, 1024) } }
        endpoint = try Endpoint { getsockname(raw, $0, $1) }
    }

    deinit {
        for socket in accepted { close(socket) }
    }

    func set(_ level: Int, _ option: Int32, _ value: inout Int32) throws {
        let size = socklen_t(MemoryLayout<Int32>.size)
        try Errno.check {
            setsockopt(descriptor.raw, Int32(level), option, &value, size)
        }
    }

    /// Accepts the next connection and sends back what comes first over it.
    func bounceNext() -> Bool {
        accepted.removeAll { close($0) == 0 }
        accept()
        var ready = pollfd(fd: accepted.last ?? -1, events: Int16(POLLIN), revents: 0)
        return poll(&ready, 1, 2000) == 1 && bounce(count: 1)
    }

    /// Takes the connections that wait.
    func accept() {
        guard kind.transport == .tcp else { return }
        var ready = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, 0) == 1 {
            let socket = Glibc.accept(descriptor.raw, nil, nil)
            if socket >= 0 { accepted.append(socket) }
        }
    }

    /// Whether each of these sends its own text to the server and gets exactly that back.
    func echoes(over connections: [Int32]) -> Bool {
        accept()
        for (index, socket) in connections.enumerated() {
            let text = Array("message \(index)".utf8)
            guard send(socket, text, text.count, 0) == text.count else { return false }
        }
        guard bounce(count: connections.count) else { return false }
        return connections.enumerated().allSatisfy { index, socket in
            receive(socket) == "message \(index)"
        }
    }

    private func bounce(count: Int) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 256)
        if kind.transport == .tcp {
            return accepted.count >= count
                && accepted.allSatisfy { socket in
                    var ready = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
                    guard poll(&ready, 1, 0) == 1 else { return true }
                    let size = recv(socket, &buffer, buffer.count, 0)
                    return size > 0 && send(socket, buffer, size, 0) == size
                }
        }
        var name = sockaddr_storage()
        for _ in 0..<count {
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let isDone = withUnsafeMutablePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                    let size = recvfrom(
                        descriptor.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT), name, &length)
                    return size > 0 && sendto(descriptor.raw, buffer, size, 0, name, length) == size
                }
            }
            guard isDone else { return false }
        }
        return true
    }

    private func receive(_ socket: Int32) -> String? {
        var ready = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, 1000) == 1 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = recv(socket, &buffer, buffer.count, 0)
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }
}

/// Connections that a test holds.
final class Held {
    private(set) var all: [Connectx.Outcome] = []
    private var descriptors: [Int32] = []

    deinit {
        for descriptor in descriptors { close(descriptor) }
    }

    var sockets: [Int32] { descriptors }
    var ports: [UInt16] { all.map(\.tuple.local.port) }

    func keep(_ connection: consuming Connectx.Connection) {
        let result = connection.outcome
        keep(result, connection.takeDescriptor())
    }

    func keep(_ result: Connectx.Outcome, _ descriptor: Int32) {
        all.append(result)
        descriptors.append(descriptor)
    }

    func closeFirst() {
        all.removeFirst()
        close(descriptors.removeFirst())
    }

    /// Connects until it fails, and tells how.
    func fill(_ transport: Transport, to destination: Endpoint, from source: Source = .any)
        -> ConnectError?
    {
        do throws(ConnectError) {
            while all.count < 1000 {
                keep(try Connectx.connectBlocking(transport, to: destination, from: source))
            }
            return nil
        } catch {
            return error
        }
    }
}

extension Sandbox {
    /// Runs `body` on a thread in this sandbox's network namespace.
    func inside<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) throws -> Result
    {
        try NetworkNamespace.inside(path: "/proc/self/fd/\(networkNamespace.raw)", body)
    }
}

/// Sets a sysctl of the calling thread's network namespace.
func setIP(_ name: String, _ value: String) throws {
    let file = try OwnedDescriptor(path: "/proc/sys/net/ipv4/\(name)", flags: O_WRONLY)
    let text = Array(value.utf8)
    try Errno.check { write(file.raw, text, text.count) }
    // The library looks again after 10 ms.
    usleep(30_000)
}

/// A socket of the test's own.
func rawSocket(_ kind: Kind, shares: Bool = false, bound: Endpoint? = nil) throws -> OwnedDescriptor
{
    let descriptor = try OwnedDescriptor {
        socket(kind.family, kind.type | Int32(SOCK_CLOEXEC.rawValue), 0)
    }
    let raw = descriptor.raw
    if shares { try SocketOption.reuseAddress.set(raw, 1) }
    if let bound {
        try Errno.check { bound.withSocketAddress(family: kind.family) { bind(raw, $0, $1) } }
    }
    return descriptor
}

/// Connects a socket that the test goes on owning.
func connectOwn(_ socket: Int32, to destination: Endpoint, from source: Connectx.Source = .any)
    throws(ConnectError) -> Connectx.Outcome
{
    let connection = try Connectx.connectBlocking(adopting: socket, to: destination, from: source)
    let outcome = connection.outcome
    _ = connection.takeDescriptor()
    return outcome
}

/// How the call failed; nil when it did not.
func failure(_ body: () throws(ConnectError) -> Void) -> ConnectError? {
    do throws(ConnectError) {
        try body()
        return nil
    } catch {
        return error
    }
}

extension IntegrationTests {
    @Suite struct ConnectxBehaviour {
        // MARK: - Ports

        @Test(arguments: Kind.allCases)
        func eachDestinationHasAllThePorts(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41011")
                    try setIP("ip_local_reserved_ports", "41003,41007-41008")
                    let free = Set<UInt16>(41_000...41_011).subtracting([41_003, 41_007, 41_008])
                    for port: UInt16 in [50_001, 50_002] {
                        let server = try EchoServer(kind, port: port)
                        let held = Held()
                        let error = held.fill(kind.transport, to: server.endpoint)
                        #expect(error?.reason == .exhausted)
                        #expect(error?.errno == kind.exhausted)
                        #expect(error?.tuple.remote == server.endpoint)
                        #expect(held.ports.sorted() == free.sorted())
                        #expect(server.echoes(over: held.sockets))
                    }
                }
            }
        }

        @Test(arguments: [Kind.udp4, .udp6])
        func aPortThatIsGivenBackIsUsedAgain(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41007")
                    let held = Held()
                    let to = kind.endpoint(9)
                    #expect(held.fill(.udp, to: to)?.reason == .exhausted)
                    let port = held.ports[0]
                    held.closeFirst()
                    // A process that another test starts may have a copy of the descriptor until it
                    // executes its program.
                    let isFull = eventually {
                        #expect(held.fill(.udp, to: to)?.reason == .exhausted)
                        return held.all.count == 8
                    }
                    #expect(isFull)
                    #expect(held.ports.last == port)
                }
            }
        }

        @Test(arguments: Kind.allCases)
        func oneSourceServesSeveralDestinations(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let servers = try [50_001, 50_002, 50_003].map {
                        try EchoServer(kind, port: $0)
                    }
                    let source = Source(kind.endpoint(42_000))
                    let held = Held()
                    for server in servers {
                        held.keep(
                            try Connectx.connectBlocking(
                                kind.transport, to: server.endpoint, from: source))
                    }
                    #expect(held.ports == [42_000, 42_000, 42_000])
                    for (server, socket) in zip(servers, held.sockets) {
                        #expect(server.echoes(over: [socket]))
                    }
                    let duplicate = failure { () throws(ConnectError) in
                        _ = try Connectx.connectBlocking(
                            kind.transport, to: servers[1].endpoint, from: source)
                    }
                    #expect(duplicate?.reason == .conflict)
                    #expect(duplicate?.errno == kind.conflict)
                    #expect(
                        duplicate?.tuple
                            == FourTuple(
                                local: kind.endpoint(42_000), remote: servers[1].endpoint))
                    #expect(servers[1].echoes(over: [held.sockets[1]]))
                }
            }
        }

        @Test(arguments: [Kind.udp4, .udp6], [true, false])
        func aPortOnWhichSomebodyWaitsIsLeftAlone(_ kind: Kind, _ shares: Bool) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41003")
                    let waits = try rawSocket(kind, shares: shares, bound: kind.endpoint(41_001))
                    let any = Endpoint(.unspecified, 41_002)
                    let waitsAnywhere = try rawSocket(kind, shares: shares, bound: any)
                    let held = Held()
                    #expect(held.fill(.udp, to: kind.endpoint(9))?.reason == .exhausted)
                    #expect(held.ports.sorted() == [41_000, 41_003])
                    let named = failure { () throws(ConnectError) in
                        let source = Source(kind.endpoint(41_001))
                        _ = try Connectx.connectBlocking(.udp, to: kind.endpoint(9), from: source)
                    }
                    #expect(named?.reason == .conflict)
                    _ = waits
                    _ = waitsAnywhere
                }
            }
        }

        @Test func aPortThatIsNotSharedIsLeftAlone() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41099")
                    // Connected elsewhere, so that no listing for our destination shows them.
                    var others: [Int32] = []
                    defer { for other in others { close(other) } }
                    for port: UInt16 in 41_000..<41_095 {
                        let other = try rawSocket(.udp4, bound: Kind.udp4.endpoint(port)).release()
                        others.append(other)
                        try Errno.check {
                            Kind.udp4.endpoint(1).withSocketAddress(family: AF_INET) {
                                connect(other, $0, $1)
                            }
                        }
                    }
                    let held = Held()
                    #expect(held.fill(.udp, to: Kind.udp4.endpoint(9))?.reason == .exhausted)
                    #expect(held.ports.sorted() == Array(41_095...41_099))
                }
            }
        }

        @Test(arguments: [Kind.udp4, .udp6])
        func settingsAreFollowed(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    for range in [UInt16(41_000)...41_002, 43_000...43_004] {
                        try setIP(
                            "ip_local_port_range", "\(range.lowerBound) \(range.upperBound)")
                        let held = Held()
                        #expect(held.fill(.udp, to: kind.endpoint(9))?.reason == .exhausted)
                        #expect(held.ports.sorted() == Array(range))
                    }
                }
            }
        }

        @Test func theSocketsOwnRangeCounts() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    var ports: Set<UInt16> = []
                    for _ in 0..<40 {
                        let socket = try rawSocket(.udp4)
                        try SocketOption.localPortRange.set(socket.raw, 43_002 << 16 | 43_000)
                        let result = try connectOwn(
                            socket.raw, to: Kind.udp4.endpoint(9))
                        ports.insert(result.tuple.local.port)
                        #expect(
                            try SocketOption.localPortRange.get(socket.raw) == 43_002 << 16
                                | 43_000)
                    }
                    #expect(ports.isSubset(of: [43_000, 43_001, 43_002]))
                    #expect(ports.count == 3)
                }
            }
        }

        // MARK: - Company

        /// Runs `count` threads in the namespace of the calling one, and waits for them.
        private func threads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
            let ended = DispatchSemaphore(value: 0)
            for index in 0..<count {
                Thread.detachNewThread {
                    body(index)
                    ended.signal()
                }
            }
            for _ in 0..<count { ended.wait() }
        }

        /// Locks of those who go elsewhere from the same port are no conflict.
        @Test(arguments: [Kind.udp4, .udp6])
        func threadsShareOneSource(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let errors = Mutex<[ConnectError]>([])
                    let opened = Mutex(Held())
                    threads(6) { thread in
                        for number in 0..<40 {
                            let to = kind.endpoint(UInt16(1000 + thread * 100 + number))
                            do throws(ConnectError) {
                                let source = Source(kind.endpoint(42_000))
                                let connection = try Connectx.connectBlocking(
                                    .udp, to: to, from: source)
                                let result = connection.outcome
                                let descriptor = connection.takeDescriptor()
                                opened.withLock { $0.keep(result, descriptor) }
                            } catch {
                                errors.withLock { $0.append(error) }
                            }
                        }
                    }
                    // One whose thread waits for a processor while it has the port locked may be
                    // in the way for longer than we try.
                    let failures = errors.withLock { $0 }
                    #expect(failures.count <= 12)
                    #expect(failures.allSatisfy { $0.reason == .conflict })
                    let tuples = opened.withLock { $0.all.map(\.tuple) }
                    #expect(Set(tuples).count == 240 - failures.count)
                    #expect(tuples.count == 240 - failures.count)
                }
            }
        }

        @Test(arguments: [Kind.udp4, .udp6])
        func threadsFindEveryPort(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41009")
                    let opened = Mutex(Held())
                    threads(6) { _ in
                        for port: UInt16 in 1...30 {
                            while true {
                                do throws(ConnectError) {
                                    let connection = try Connectx.connectBlocking(
                                        .udp, to: kind.endpoint(port))
                                    let result = connection.outcome
                                    let descriptor = connection.takeDescriptor()
                                    opened.withLock { $0.keep(result, descriptor) }
                                } catch {
                                    break
                                }
                            }
                        }
                    }
                    let tuples = opened.withLock { $0.all.map(\.tuple) }
                    #expect(tuples.count == 300)
                    #expect(Set(tuples).count == tuples.count)
                }
            }
        }

        /// Options with which bind() does other things than it does here.
        @Test func optionsThatStandInTheWay() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let to = Kind.udp4.endpoint(9)
                    // A port each: a child of another test may keep the first a moment longer.
                    for (port, option) in [
                        (42_000, SocketOption.reusePort), (42_001, .bindAddressNoPort),
                    ] {
                        let source = Source(Kind.udp4.endpoint(UInt16(port)))
                        let first = try rawSocket(.udp4)
                        let second = try rawSocket(.udp4)
                        try option.set(first.raw, 1)
                        try option.set(second.raw, 1)
                        #expect(try connectOwn(first.raw, to: to, from: source).technique == .lock)
                        let error = failure { () throws(ConnectError) in
                            _ = try connectOwn(second.raw, to: to, from: source)
                        }
                        #expect(error?.reason == .conflict)
                        #expect(try option.get(second.raw) == 1)
                        let third = try rawSocket(.udp4)
                        try option.set(third.raw, 1)
                        #expect(try connectOwn(third.raw, to: to).tuple.local.port != 0)
                    }
                }
            }
        }

        // MARK: - Addresses

        @Test func theSourceIsTheRoutes() throws {
            try Sandbox.run { sandbox in
                try sandbox.ip("address", "add", "10.99.0.1/32", "dev", "lo")
                try sandbox.ip("route", "add", "192.0.2.0/24", "dev", "lo", "src", "10.99.0.1")
                try sandbox.inside {
                    let udp = try Connectx.connectBlocking(.udp, to: Endpoint("192.0.2.1:9")!)
                    #expect(udp.tuple.local.address == IPAddress("10.99.0.1"))
                    #expect(udp.technique == .ownPort)
                }
            }
        }

        @Test func linkLocalWithScope() throws {
            try Sandbox.run { sandbox in
                try sandbox.ip("link", "add", "pair0", "type", "veth", "peer", "name", "pair1")
                for end in ["pair0", "pair1"] {
                    try sandbox.ip("link", "set", end, "up")
                }
                try sandbox.ip(
                    "-6", "address", "add", "fe80::99/64", "dev", "pair0", "nodad")
                try sandbox.inside {
                    let scope = try #require(interfaceIndex("pair0"))
                    let to = Endpoint(IPAddress("fe80::1")!, 9, scope: scope)
                    let source = Source(Endpoint("[fe80::99%pair0]:42000")!)
                    let first = try Connectx.connectBlocking(.udp, to: to, from: source)
                    #expect(first.technique == .lock)
                    // Both ends say where they are.
                    #expect(first.tuple.local == Endpoint("[fe80::99%pair0]:42000"))
                    #expect(first.tuple.remote == to)
                    let second = failure { () throws(ConnectError) in
                        _ = try Connectx.connectBlocking(.udp, to: to, from: source)
                    }
                    #expect(second?.reason == .conflict)
                    // The interface gives the scope as well.
                    let other = try Connectx.connectBlocking(
                        .udp, to: Endpoint("[fe80::1]:9")!,
                        from: Source(interface: scope))
                    #expect(other.tuple.local.port != 0)
                    // Nor does its own need a source beside it.
                    let chosen = try Connectx.connectBlocking(.udp, to: to)
                    #expect(chosen.tuple.local.address == IPAddress("fe80::99"))
                    #expect(chosen.tuple.remote == to)
                }
            }
        }

        @Test func mappedAndPlainAddressesAreOneSpace() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41003")
                    let held = Held()
                    let to = Endpoint("[::ffff:127.0.0.1]:9")!
                    let mapped = try rawSocket(.udp6)
                    let result = try connectOwn(mapped.raw, to: to)
                    #expect(result.technique == .ownPort)
                    #expect(held.fill(.udp, to: Kind.udp4.endpoint(9))?.reason == .exhausted)
                    #expect(
                        (held.ports + [result.tuple.local.port]).sorted()
                            == Array(41_000...41_003))
                    _ = mapped
                }
            }
        }

        /// More of them than are tried before they are listed.
        @Test func portsOfManyMappedSocketsAreListed() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41039")
                    let to = Endpoint("[::ffff:127.0.0.1]:9")!
                    let mapped = try (0..<38).map { _ in try rawSocket(.udp6).release() }
                    defer { for raw in mapped { close(raw) } }
                    for raw in mapped { _ = try connectOwn(raw, to: to) }
                    let held = Held()
                    #expect(held.fill(.udp, to: Kind.udp4.endpoint(9))?.reason == .exhausted)
                    #expect(held.ports.count == 2)
                }
            }
        }

        @Test func noAddressStandsForThisHost() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let source = Source(port: 42_000)
                    let first = try Connectx.connectBlocking(
                        .udp, to: Endpoint("0.0.0.0:9")!, from: source)
                    #expect(first.tuple.remote == Endpoint("127.0.0.1:9"))
                    let same = failure { () throws(ConnectError) in
                        _ = try Connectx.connectBlocking(
                            .udp, to: Endpoint("127.0.0.1:9")!, from: source)
                    }
                    #expect(same?.reason == .conflict)
                    let six = try Connectx.connectBlocking(.udp, to: Endpoint("[::]:9")!)
                    #expect(six.tuple.remote == Endpoint("[::1]:9"))
                }
            }
        }

        @Test func multicastIsShared() throws {
            try Sandbox.run { sandbox in
                try sandbox.ip("route", "add", "224.0.0.0/4", "dev", "lo")
                try sandbox.inside {
                    let group = Endpoint("239.1.1.1:9")!
                    for _ in 0..<2 {
                        let socket = try rawSocket(.udp4, shares: true)
                        let result = try connectOwn(
                            socket.raw, to: group, from: Source(port: 42_000))
                        #expect(result.technique == .plain)
                    }
                }
            }
        }

        // MARK: - Namespaces

        @Test func theSocketsNamespaceCounts() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside { try setIP("ip_local_port_range", "41000 41004") }
                // Made inside, connected from here: the thread is in another namespace.
                let to = Kind.udp4.endpoint(9)
                var ports: [UInt16] = []
                for _ in 0..<5 {
                    let socket = try sandbox.socket().descriptor
                    try SocketOption.reuseAddress.set(socket, 0)
                    let result = try connectOwn(socket, to: to)
                    #expect([.ownPort, .lock].contains(result.technique))
                    ports.append(result.tuple.local.port)
                }
                #expect(ports.sorted() == Array(41_000...41_004))
                let one = try sandbox.socket().descriptor
                let error = failure { () throws(ConnectError) in _ = try connectOwn(one, to: to) }
                #expect(error?.reason == .exhausted)
            }
        }

        // MARK: - What is left on a socket

        @Test(arguments: [Kind.udp4, .udp6])
        func aRefusedSocketIsAsItWas(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41000")
                    let to = kind.endpoint(9)
                    let first = try Connectx.connectBlocking(.udp, to: to)
                    #expect(first.tuple.local.port == 41_000)
                    for source in [Source.any, Source(kind.endpoint(41_000))] {
                        let socket = try rawSocket(kind)
                        let error = failure { () throws(ConnectError) in
                            _ = try connectOwn(socket.raw, to: to, from: source)
                        }
                        #expect(error?.errno == (source.port == nil ? EAGAIN : EADDRINUSE))
                        try expectUntouched(socket.raw)
                        // And of use: to another destination.
                        let result = try connectOwn(socket.raw, to: kind.endpoint(10))
                        #expect(result.tuple.local.port == 41_000)
                    }
                }
            }
        }

        /// The connect itself fails, when the socket is bound and locked.
        @Test(arguments: [Kind.udp4, .udp6])
        func aSocketThatGotNowhereIsAsItWas(_ kind: Kind) throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41001")
                    let nowhere = Endpoint(kind.isIPv6 ? "[2001:db8::1]:9" : "192.0.2.1:9")!
                    for port in [nil, UInt16(41_001)] {
                        let socket = try rawSocket(kind)
                        let source = Source(address: kind.loopback, port: port)
                        let error = failure { () throws(ConnectError) in
                            _ = try connectOwn(socket.raw, to: nowhere, from: source)
                        }
                        #expect(error?.reason == .noRoute)
                        try expectUntouched(socket.raw)
                    }
                    // And the ports are free again.
                    let held = Held()
                    #expect(held.fill(.udp, to: kind.endpoint(9))?.reason == .exhausted)
                    #expect(held.all.count == 2)
                }
            }
        }

        @Test func aSocketThatFoundAPortUnsharedIsAsItWas() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    try setIP("ip_local_port_range", "41000 41000")
                    let other = try rawSocket(.udp4, bound: Kind.udp4.endpoint(41_000))
                    let raw = other.raw
                    try Errno.check {
                        Kind.udp4.endpoint(1).withSocketAddress(family: AF_INET) {
                            connect(raw, $0, $1)
                        }
                    }
                    for port in [nil, UInt16(41_000)] {
                        let socket = try rawSocket(.udp4)
                        let source = Source(address: nil, port: port)
                        let error = failure { () throws(ConnectError) in
                            let to = Kind.udp4.endpoint(9)
                            _ = try connectOwn(socket.raw, to: to, from: source)
                        }
                        #expect(error?.reason == (port == nil ? .exhausted : .conflict))
                        try expectUntouched(socket.raw)
                    }
                    _ = other
                }
            }
        }

        private func expectUntouched(
            _ raw: Int32, sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let name = try Endpoint { getsockname(raw, $0, $1) }
            #expect(name.address.isAny && name.port == 0, sourceLocation: sourceLocation)
            #expect(try SocketOption.reuseAddress.get(raw) == 0, sourceLocation: sourceLocation)
            #expect(try SocketOption.localPortRange.get(raw) == 0, sourceLocation: sourceLocation)
        }

        @Test func disconnectingGivesAChosenPortBack() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let socket = try rawSocket(.udp4)
                    let raw = socket.raw
                    _ = try connectOwn(raw, to: Kind.udp4.endpoint(9))
                    var none = sockaddr()
                    none.sa_family = sa_family_t(AF_UNSPEC)
                    #expect(connect(raw, &none, socklen_t(MemoryLayout<sockaddr>.size)) == 0)
                    #expect(try Endpoint { getsockname(raw, $0, $1) }.port == 0)
                }
            }
        }

        @Test func aSocketThatIsBoundKeepsItsName() throws {
            try Sandbox.run { sandbox in
                try sandbox.inside {
                    let name = Kind.udp4.endpoint(42_000)
                    let socket = try rawSocket(.udp4, shares: true, bound: name)
                    let to = Kind.udp4.endpoint(9)
                    let other = failure { () throws(ConnectError) in
                        _ = try connectOwn(socket.raw, to: to, from: Source(port: 42_001))
                    }
                    #expect(other?.reason == .invalidArgument)
                    #expect(try connectOwn(socket.raw, to: to).tuple.local == name)
                    let second = try rawSocket(.udp4, shares: true, bound: name)
                    let error = failure { () throws(ConnectError) in
                        _ = try connectOwn(second.raw, to: to)
                    }
                    #expect(error?.reason == .conflict)
                }
            }
        }
    }
}
