// SPDX-License-Identifier: Apache-2.0
// What all the ways to connect have in common: a socket, made here or adopted, that is connected as
// far as it goes without waiting for the other side.

import CTupleguardLinux
import ConnectxCore
import TupleguardSockets

/// A connection that was asked for.
struct Opening: Sendable {
    typealias Connection = Connectx.Connection

    let destination: Endpoint
    let source: Source
    let options: Connectx.Options

    func error(_ reason: ConnectError.Reason, _ errno: Int32) -> ConnectError {
        let local = Endpoint(source.address ?? .unspecified, source.port ?? 0)
        return ConnectError(reason, errno, FourTuple(local: local, remote: destination))
    }

    private func error(_ error: Errno) -> ConnectError {
        self.error(.init(error.number, isFromBind: false), error.number)
    }

    /// Whether a named port that others are at is tried again by the core, which blocks.
    func patience(_ wished: Patience) -> Patience {
        options.failsWhenContended ? .failsAtOnce : wished
    }

    // MARK: - A socket of our own

    /// Makes a socket and connects it.
    ///
    /// - Parameter isNonBlocking: whether connect(2) is not to wait.
    func open(
        _ transport: Transport, isNonBlocking: Bool, _ patience: Patience,
        _ configure: Connectx.Configuration?
    ) throws(ConnectError) -> Connection {
        let maker = SocketMaker(
            opening: self, transport: transport, isNonBlocking: isNonBlocking, configure: configure)
        if transport == .tcp, case .bindRetry(let attempts) = options.strategy, source.port == nil {
            return try retry(attempts, maker)
        }
        let descriptor = try maker.make()
        let socket = try maker.socket(descriptor.raw)
        let outcome = try connect(socket, from: source, patience)
        return Connection(descriptor: descriptor, outcome: outcome)
    }

    private func connect(
        _ socket: Socket, from source: Source, as technique: Technique? = nil, _ patience: Patience
    ) throws(ConnectError) -> Connectx.Outcome {
        let outcome = try options.firstData.withVectors { data throws(ConnectError) in
            var outcome = try ConnectxCore.connect(
                socket, from: source, to: Destination(destination), data, patience)
            if let technique { outcome.technique = technique }
            return outcome
        }
        return Connectx.Outcome(outcome, socket.raw, destination)
    }

    /// The older way for TCP: see `Connectx.Options.Strategy`.
    private func retry(_ attempts: Int, _ maker: SocketMaker) throws(ConnectError) -> Connection {
        guard attempts > 0 else { throw error(.invalidArgument, EINVAL) }
        for attempt in 1...attempts {
            let descriptor = try maker.make()
            do throws(ConnectError) {
                try bindAnyPort(maker.socket(descriptor.raw), isShared: attempt < attempts)
                let bound = try Socket(descriptor.raw)
                let outcome = try connect(bound, from: .any, as: .bindRetry, .waits)
                return Connection(descriptor: descriptor, outcome: outcome)
            } catch {
                guard error.errno == EADDRNOTAVAIL, error.reason != .sourceNotLocal,
                    attempt < attempts
                else { throw error }
            }
        }
        throw error(.exhausted, EADDRNOTAVAIL)
    }

    private func bindAnyPort(_ socket: Socket, isShared: Bool) throws(ConnectError) {
        do throws(Errno) {
            try socket.share(isShared)
        } catch {
            throw self.error(error)
        }
        let name = Endpoint(source.address ?? .unspecified, 0)
        switch socket.bindName(name, scope: destination.scope) {
        case 0: return
        // No port is left that may be bound to (inet_csk_get_port).
        case EADDRINUSE: throw error(.exhausted, EADDRNOTAVAIL)
        case let number: throw error(.init(number, isFromBind: true), number)
        }
    }

    // MARK: - A socket of the caller's

    /// Connects a socket of the caller's, and takes it over when that succeeds. A TCP socket then
    /// has O_NONBLOCK.
    func adopt(_ adopted: Adopted, _ patience: Patience) throws(ConnectError) -> Connection {
        let socket = adopted.socket
        if socket.transport == .tcp { linux_set_blocking(socket.raw, false) }
        do throws(ConnectError) {
            let outcome = try connect(socket, from: source, patience)
            return Connection(descriptor: OwnedDescriptor(taking: socket.raw), outcome: outcome)
        } catch {
            adopted.restoreBlocking()
            throw error
        }
    }

    /// Ends an adopted connection that came to nothing, and leaves the socket to the caller.
    func giveBack(_ connection: consuming Connection, _ adopted: Adopted) {
        _ = connection.takeDescriptor()
        adopted.socket.abandon(from: source)
        adopted.restoreBlocking()
    }

    // MARK: - After the connect

    /// What waiting for the other side came to: `error` is 0, or an error's number.
    func finish(_ connection: inout Connection, _ error: Int32) throws(ConnectError) {
        try check(error, connection.tuple)
        connection.outcome.state = .connected
    }

    /// Throws what waiting came to, unless it is 0.
    func check(_ error: Int32, _ tuple: FourTuple) throws(ConnectError) {
        guard error != 0 else { return }
        let reason: ConnectError.Reason =
            switch error {
            case ETIMEDOUT: .timedOut
            case ECANCELED: .cancelled
            default: .init(error, isFromBind: false)
            }
        throw ConnectError(reason, error, tuple)
    }

    /// Sends what the connect left of the first data, as far as there is room; false when some is
    /// left.
    func sendRest(_ connection: inout Connection) throws(ConnectError) -> Bool {
        guard case .fastOpen(let bytes) = options.firstData else { return true }
        while connection.outcome.sent < bytes.count {
            let sent = bytes[connection.outcome.sent...].withUnsafeBytes {
                send(
                    connection.descriptor.raw, $0.baseAddress, $0.count,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            let number = linux_errno()
            if sent >= 0 {
                connection.outcome.sent += sent
            } else if number == EAGAIN {
                return false
            } else if number != EINTR {
                try check(number, connection.tuple)
            }
        }
        return true
    }
}

/// A socket of the caller's, as it was before it was connected.
struct Adopted: Sendable {
    let socket: Socket
    private let isBlocking: Bool

    init(_ raw: Int32) throws(ConnectError) {
        socket = try Socket(raw)
        isBlocking = linux_is_blocking(raw)
    }

    func restoreBlocking() { linux_set_blocking(socket.raw, isBlocking) }
}

/// SO_ERROR
func pendingError(of socket: Int32) -> Int32 {
    (try? SocketOption.error.get(socket)) ?? EBADF
}

/// Makes the sockets of an opening.
private struct SocketMaker {
    let opening: Opening
    let transport: Transport
    let isNonBlocking: Bool
    let configure: Connectx.Configuration?

    private var family: Int32 {
        let address = opening.destination.address
        let isIPv4 = address.isIPv4 || address.isAny && opening.source.address?.isIPv4 == true
        return isIPv4 ? AF_INET : AF_INET6
    }

    func make() throws(ConnectError) -> OwnedDescriptor {
        let descriptor: OwnedDescriptor
        do throws(Errno) {
            descriptor = try OwnedDescriptor(
                openSocket(family, transport, isNonBlocking: isNonBlocking))
        } catch {
            throw opening.error(.init(error.number, isFromBind: false), error.number)
        }
        try Connectx.configure(descriptor.raw, for: opening.destination, configure)
        return descriptor
    }

    /// What is known of a socket that `make` made.
    func socket(_ raw: Int32) throws(ConnectError) -> Socket {
        configure == nil ? Socket(new: raw, family: family, transport: transport) : try Socket(raw)
    }
}
