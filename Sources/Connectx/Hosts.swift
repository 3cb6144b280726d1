// SPDX-License-Identifier: Apache-2.0
// Connecting to a host by its name, or to whichever of its addresses answers.

import CTupleguardLinux
public import ConnectxCore
import Dispatch
import Synchronization
public import TupleguardSockets

extension Connectx {
    // MARK: - By name

    /// Connects to a host by its name: to whichever of its addresses answers.
    ///
    /// TCP: Happy Eyeballs (RFC 8305), see `connect(_:toFastestOf:from:options:configure:)`. UDP,
    /// where nobody answers to a connect: the first address to which there is a way.
    ///
    /// - Throws: `unknownHost` when the name has no address.
    public static func connect(
        _ transport: Transport, toHost name: String, port: UInt16, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) async throws(ConnectError) -> Connection {
        let deadline = options.deadline
        do throws(ConnectError) {
            let addresses = try await LookUp(name, port).run(until: deadline)
            var options = options
            options.timeout = deadline.map { $0 - .now }
            return try await connect(
                transport, toFastestOf: addresses, from: source, options: options,
                configure: configure)
        } catch {
            throw error.naming(name)
        }
    }

    /// The same on a thread that may be kept waiting. (While the name is looked up `timeout` does
    /// not count.)
    @available(*, noasync, message: "it blocks; await Connectx.connect")
    public static func connectBlocking(
        _ transport: Transport, toHost name: String, port: UInt16, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        let addresses = try addresses(of: name, port: port)
        do throws(ConnectError) {
            return try connectBlocking(
                transport, toFastestOf: addresses, from: source, options: options,
                configure: configure)
        } catch {
            throw error.naming(name)
        }
    }

    /// The addresses of a host, the preferred one first.
    package static func addresses(of name: String, port: UInt16) throws(ConnectError) -> [Endpoint]
    {
        try LookUp(name, port).runBlocking()
    }

    // MARK: - By addresses

    /// Connects to whichever of a host's addresses answers first (TCP), or to the first to which
    /// there is a way (UDP).
    ///
    /// TCP, as RFC 8305 has it: the addresses of both families in turn, each tried when the one
    /// before has failed, or has not answered for `options.attemptDelay`; all that are under way
    /// when one answers are closed. Data that goes with the SYN (`Options.FirstData.fastOpen`) may
    /// so reach several of them. A UDP port that was named, and that others are at, is not tried
    /// again.
    ///
    /// `addresses` are in the order of preference.
    ///
    /// - Throws: the error of the last that failed; `invalidArgument` when there is none.
    public static func connect(
        _ transport: Transport, toFastestOf addresses: [Endpoint], from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) async throws(ConnectError) -> Connection {
        let plan = Opening(destination: .any, source: source, options: options)
        var race = AddressRace(transport, addresses, plan, configure)
        if Task.isCancelled { throw plan.error(.cancelled, ECANCELED) }
        var connection = try await race.run()
        try await plan.wait(for: &connection, until: race.deadline)
        if transport == .tcp {
            linux_set_blocking(connection.descriptor.raw, !options.isNonBlocking)
        }
        return connection
    }

    /// The same on a thread that may be kept waiting.
    @available(*, noasync, message: "it blocks; await Connectx.connect")
    public static func connectBlocking(
        _ transport: Transport, toFastestOf addresses: [Endpoint], from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        let plan = Opening(destination: .any, source: source, options: options)
        var race = AddressRace(transport, addresses, plan, configure)
        var connection = try race.runBlocking()
        try plan.waitBlocking(for: &connection, until: race.deadline)
        if transport == .tcp {
            linux_set_blocking(connection.descriptor.raw, !options.isNonBlocking)
        }
        return connection
    }
}

extension ConnectError {
    fileprivate func naming(_ host: String) -> ConnectError {
        var error = self
        error.host = host
        return error
    }
}

extension Endpoint {
    /// Where errors say it was going before an address was chosen.
    fileprivate static var any: Endpoint { Endpoint(.unspecified, 0) }
}

extension AddressRace {
    fileprivate mutating func run() async throws(ConnectError) -> Connectx.Connection {
        while true {
            if let connection = try goOn() { return connection }
            let event = await Wait(for: sockets, until: waitUntil).run()
            if let connection = try take(event) { return connection }
        }
    }

    fileprivate mutating func runBlocking() throws(ConnectError) -> Connectx.Connection {
        while true {
            if let connection = try goOn() { return connection }
            let event = Wait.blocking(for: sockets, until: waitUntil)
            if let connection = try take(event) { return connection }
        }
    }
}

/// The addresses of a name, by getaddrinfo(3): what /etc/hosts, the resolver and gai.conf(5) say.
///
/// The C function blocks. So for a task it runs on a thread of Dispatch's, and a task that is
/// cancelled does not wait for it.
private final class LookUp: Sendable {
    private static let queue = DispatchQueue(label: "connectx.names", attributes: .concurrent)

    private let name: String
    private let port: UInt16
    private let answer = Mutex<Result<[Endpoint], ConnectError>?>(nil)

    init(_ name: String, _ port: UInt16) {
        self.name = name
        self.port = port
    }

    func run(until deadline: ContinuousClock.Instant?) async throws(ConnectError) -> [Endpoint] {
        let wait = Wait(for: [], until: deadline)
        Self.queue.async {
            let answer = Result { () throws(ConnectError) in try self.runBlocking() }
            self.answer.withLock { $0 = answer }
            wait.end(Wait.Event(error: 0))
        }
        switch await wait.run().error {
        case ETIMEDOUT: throw error(.timedOut, ETIMEDOUT)
        case ECANCELED: throw error(.cancelled, ECANCELED)
        default: return try answer.withLock { $0! }.get()
        }
    }

    func runBlocking() throws(ConnectError) -> [Endpoint] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)  // Each address once.
        hints.ai_flags = AI_ADDRCONFIG
        var list: UnsafeMutablePointer<addrinfo>?
        // getaddrinfo would not see what follows a NUL.
        let result = name.utf8.contains(0) ? EAI_NONAME : getaddrinfo(name, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        switch result {
        case 0: break
        case EAI_AGAIN: throw error(.unknownHost, EAGAIN)
        case EAI_MEMORY: throw error(.outOfResources, ENOMEM)
        case EAI_SYSTEM: throw error(.unknownHost, linux_errno())
        default: throw error(.unknownHost, ENOENT)
        }
        var addresses: [Endpoint] = []
        var next = list
        while let entry = next?.pointee {
            let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
            if let name = try? SocketName(bytes) {
                addresses.append(Endpoint(name.endpoint.address, port, scope: name.scope))
            }
            next = entry.ai_next
        }
        return addresses
    }

    private func error(_ reason: ConnectError.Reason, _ errno: Int32) -> ConnectError {
        ConnectError(
            reason, errno,
            FourTuple(local: Endpoint(.unspecified, 0), remote: Endpoint(.unspecified, port))
        ).naming(name)
    }
}
