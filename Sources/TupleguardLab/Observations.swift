// SPDX-License-Identifier: Apache-2.0
// What else decides how many connections fit: TIME_WAIT, the limit for each
// destination, the loopback range, unix sockets.

import Connectx
import Glibc
import TupleguardSocketDiag
import TupleguardSockets

/// Something that was seen, in numbers and in a sentence.
package struct ObservationReport: Encodable, Sendable {
    package let name: String
    package let calls: String
    /// What came of it, in words.
    package let result: String
    /// The same for programs.
    package let numbers: [String: Int]
    /// How the first connect failed that did; nil when none did.
    package let errno: String?

    init(
        _ observation: Observation, _ result: String, _ numbers: [String: Int],
        errno: CallFailure? = nil
    ) {
        name = observation.name
        calls = observation.calls
        self.result = result
        self.numbers = numbers
        self.errno = errno?.errno.name
    }
}

struct Observation: Sendable {
    let name: String
    let calls: String
    let observe: @Sendable (Observation, Setting) throws -> ObservationReport

    static let all = [
        Observation(
            name: "tcp-time-wait", calls: "connect(), close(); net.ipv4.tcp_tw_reuse = 0"
        ) { try $0.observeTimeWait($1, reuse: 0) },
        Observation(
            name: "tcp-time-wait-reuse", calls: "connect(), close(); net.ipv4.tcp_tw_reuse = 1"
        ) { try $0.observeTimeWait($1, reuse: 1) },
        Observation(
            name: "tcp-per-destination", calls: "connect() to one destination, then to a second"
        ) { try $0.observeDestinations($1) },
        Observation(
            name: "tcp-loopback-range", calls: "connect() to 127.0.0.1, 127.0.0.2 and so on"
        ) { try $0.observeLoopback($1) },
        Observation(
            name: "unix", calls: "connect() of unix sockets, for comparison"
        ) { try $0.observeUnix($1) },
    ]

    // MARK: - Filling

    /// Plain TCP connections until one fails; twice the ports at most.
    private static func fill(
        _ setting: Setting, _ destination: Endpoint, into held: inout HeldSockets
    ) -> (opened: Int, failure: CallFailure?) {
        for opened in 0..<2 * setting.ports.count {
            do throws(CallFailure) {
                let socket = try NewSocket(.tcp)
                try socket.connect(destination)
                held.hold(socket.take())
            } catch {
                return (opened, error)
            }
        }
        return (2 * setting.ports.count, nil)
    }

    // MARK: - TIME_WAIT

    /// The kernel asks that a second has gone by since the last packet, and counts whole seconds.
    private static let microsecondsUntilReuse: UInt32 = 2_100_000

    private func observeTimeWait(_ setting: Setting, reuse: Int) throws -> ObservationReport {
        try LabNamespace.set("net/ipv4/tcp_tw_reuse", "\(reuse)")
        let destination = setting.destinations[0]
        let servers = try Servers(ports: [destination.port])
        var first = HeldSockets()
        let (opened, _) = Self.fill(setting, destination, into: &first)
        // Who closes first is left with TIME_WAIT, and that is the client here.
        first.closeNormally()
        servers.drain()
        usleep(Self.microsecondsUntilReuse)
        let waiting = try Self.countTimeWait(at: destination)
        var second = HeldSockets()
        let (again, failure) = Self.fill(setting, destination, into: &second)
        _ = consume second
        return ObservationReport(
            self,
            "\(opened) opened and closed; 2 s later \(waiting) in TIME_WAIT, \(again) more opened",
            ["opened": opened, "time_wait": waiting, "opened_again": again], errno: failure)
    }

    private static func countTimeWait(at destination: Endpoint) throws -> Int {
        var diag = try SocketDiag()
        var filter = SocketDiag.Filter()
        filter.states = 1 << 6  // TCP_TIME_WAIT
        filter.remoteOrUnconnected = destination
        var count = 0
        try withUnsafeTemporaryAllocation(byteCount: 32 * 1024, alignment: 8) { buffer in
            try diag.list(.tcp, family: AF_INET, filter: filter, buffer: buffer) { record in
                if record.tuple.remote == destination { count += 1 }
            }
        }
        return count
    }

    // MARK: - More destinations

    private func observeDestinations(_ setting: Setting) throws -> ObservationReport {
        let destinations = setting.destinations.prefix(2)
        let servers = try Servers(ports: destinations.map(\.port))
        var held = HeldSockets()
        let (first, failure) = Self.fill(setting, destinations[0], into: &held)
        let (second, _) = Self.fill(setting, destinations[1], into: &held)
        _ = consume held
        servers.drain()
        return ObservationReport(
            self,
            "\(first) to the first, \(second) more to the second, from \(setting.portCount) ports",
            ["first": first, "second": second], errno: failure)
    }

    private func observeLoopback(_ setting: Setting) throws -> ObservationReport {
        let port = setting.destinations[0].port
        let servers = try Servers(ports: [port])
        let addresses = (1...setting.destinationCount).map {
            IPAddress(v4: 127, 0, 0, UInt8($0))
        }
        var held = HeldSockets()
        var failure: CallFailure?
        for address in addresses {
            failure = Self.fill(setting, Endpoint(address, port), into: &held).failure ?? failure
        }
        let opened = held.all.count
        _ = consume held
        servers.drain()
        return ObservationReport(
            self,
            "\(opened) to one server on 0.0.0.0, at \(addresses.count) of its addresses",
            ["opened": opened, "addresses": addresses.count], errno: failure)
    }

    // MARK: - Unix sockets

    /// Ten times as many as there are ports.
    private func observeUnix(_ setting: Setting) throws -> ObservationReport {
        let wanted = 10 * setting.portCount
        let server = try UnixServer(backlog: wanted)
        var opened = 0
        var failure: CallFailure?
        var held = HeldSockets()
        while opened < wanted && failure == nil {
            do throws(Errno) {
                held.hold(try server.connect())
                opened += 1
            } catch {
                failure = CallFailure(.connect, error.number)
            }
        }
        return ObservationReport(
            self, "\(opened) of \(wanted) opened: there are no ports to run out of",
            ["opened": opened, "wanted": wanted], errno: failure)
    }
}

/// A unix stream socket with a name that the kernel chose (unix(7): autobind, abstract).
private struct UnixServer: ~Copyable {
    private let listener: OwnedDescriptor
    private var name = sockaddr_un()
    private var length = socklen_t(MemoryLayout<sockaddr_un>.size)

    init(backlog: Int) throws(Errno) {
        let listener = try Self.makeSocket()
        let raw = listener.raw
        name.sun_family = sa_family_t(AF_UNIX)
        try Self.call(&name) { bind(raw, $0, socklen_t(MemoryLayout<sa_family_t>.size)) }
        var length = length
        try Self.call(&name) { getsockname(raw, $0, &length) }
        self.length = length
        try Errno.check { listen(raw, Int32(backlog)) }
        self.listener = listener
    }

    func connect() throws(Errno) -> OwnedDescriptor {
        let socket = try Self.makeSocket()
        let raw = socket.raw
        var name = name
        let length = length
        try Self.call(&name) { Glibc.connect(raw, $0, length) }
        return socket
    }

    private static func makeSocket() throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor {
            socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
    }

    private static func call(
        _ name: inout sockaddr_un, _ call: (UnsafeMutablePointer<sockaddr>) -> Int32
    ) throws(Errno) {
        let result = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0) }
        }
        if result < 0 { throw .last }
    }
}
