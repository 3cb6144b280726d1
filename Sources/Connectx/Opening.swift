// SPDX-License-Identifier: Apache-2.0
// Making a socket for a connection, and waiting until it is one.

import CTupleguardLinux
import ConnectxCore
import Glibc
import TupleguardSockets

/// A connection that is to have a socket of its own.
struct Opening: Sendable {
    let transport: Transport
    let destination: Destination
    let source: Source
    let options: ConnectOptions

    init(
        _ transport: Transport, _ destination: Destination, _ source: Source,
        _ options: ConnectOptions
    ) {
        self.transport = transport
        self.destination = destination
        self.source = source
        self.options = options
    }

    func error(_ reason: ConnectError.Reason, _ errno: Int32) -> ConnectError {
        let local = Endpoint(source.address ?? .unspecified, source.port ?? 0)
        return ConnectError(
            reason, errno, FourTuple(local: local, remote: destination.endpoint))
    }

    /// Opens it as far as it goes without waiting, if it is not to wait.
    func open(isNonBlocking: Bool) throws(ConnectError) -> Connection {
        let isNonBlocking = isNonBlocking || options.isNonBlocking
        if transport == .tcp, case .bindRetry(let attempts) = options.strategy,
            source.port == nil
        {
            return try retry(attempts, isNonBlocking: isNonBlocking)
        }
        let descriptor = try makeSocket(isNonBlocking: isNonBlocking)
        let socket = Socket(new: descriptor.raw, family: family, transport: transport)
        return try connect(socket, descriptor, source, as: nil)
    }

    private var family: Int32 {
        let isIPv4 =
            destination.endpoint.address.isIPv4
            || destination.endpoint.address.isAny && source.address?.isIPv4 == true
        return isIPv4 ? AF_INET : AF_INET6
    }

    private func makeSocket(isNonBlocking: Bool) throws(ConnectError) -> OwnedDescriptor {
        do throws(Errno) {
            return try OwnedDescriptor(
                openSocket(family, transport, isNonBlocking: isNonBlocking))
        } catch {
            throw self.error(.init(error.number, isFromBind: false), error.number)
        }
    }

    private func connect(
        _ socket: Socket, _ descriptor: consuming OwnedDescriptor, _ source: Source,
        as technique: Technique?
    ) throws(ConnectError) -> Connection {
        let outcome = try options.firstData.withVectors { data throws(ConnectError) in
            var outcome = try ConnectxCore.connect(socket, from: source, to: destination, data)
            if let technique { outcome.technique = technique }
            return outcome
        }
        return Connection(
            descriptor: descriptor, result: Connected(outcome, socket.raw, destination))
    }

    /// The older way for TCP: see `ConnectOptions.Strategy`.
    private func retry(_ attempts: Int, isNonBlocking: Bool) throws(ConnectError) -> Connection {
        guard attempts > 0 else { throw error(.invalidArgument, EINVAL) }
        for attempt in 1...attempts {
            let descriptor = try makeSocket(isNonBlocking: isNonBlocking)
            let socket = Socket(new: descriptor.raw, family: family, transport: .tcp)
            do throws(ConnectError) {
                try bindAnyPort(socket, isShared: attempt < attempts)
                let bound = try Socket(descriptor.raw)
                return try connect(bound, descriptor, .any, as: .bindRetry)
            } catch {
                guard error.errno.number == EADDRNOTAVAIL, error.reason != .sourceNotLocal,
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
            throw self.error(.connectFailed, error.number)
        }
        switch socket.bindName(
            Endpoint(source.address ?? .unspecified, 0), scope: destination.scope)
        {
        case 0: return
        // No port is left that may be bound to (inet_csk_get_port).
        case EADDRINUSE: throw error(.exhausted, EADDRNOTAVAIL)
        case let number: throw error(.init(number, isFromBind: true), number)
        }
    }

    /// What waiting came to: `error` is 0, or an error's number.
    func finish(_ connection: inout Connection, _ error: Int32) throws(ConnectError) {
        try check(error, connection.tuple)
        let raw = connection.descriptor.raw
        if !options.isNonBlocking { linux_set_blocking(raw) }
        connection.result.state = .connected
    }

    /// Throws what waiting came to, unless it is 0.
    func check(_ error: Int32, _ tuple: FourTuple) throws(ConnectError) {
        guard error != 0 else { return }
        let reason =
            error == ETIMEDOUT ? ConnectError.Reason.timedOut : .init(error, isFromBind: false)
        throw ConnectError(reason, error, tuple)
    }

    /// Sends what the connect left of the first data, as far as there is room; false when some is
    /// left.
    func sendRest(_ connection: inout Connection) throws(ConnectError) -> Bool {
        guard case .fastOpen(let bytes) = options.firstData else { return true }
        while connection.result.sent < bytes.count {
            let sent = bytes[connection.result.sent...].withUnsafeBytes {
                send(
                    connection.descriptor.raw, $0.baseAddress, $0.count,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            if sent >= 0 {
                connection.result.sent += sent
            } else if errno == EAGAIN {
                return false
            } else if errno != EINTR {
                try check(errno, connection.tuple)
            }
        }
        return true
    }
}

/// Waits until a socket is connected and can be written to: 0, or why it cannot.
func waitUntilWritable(_ socket: Int32, until deadline: ContinuousClock.Instant?) -> Int32 {
    while true {
        var ready = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        let result = poll(&ready, 1, deadline.map(milliseconds) ?? -1)
        if result > 0 { return pendingError(of: socket) }
        if result == 0 && deadline! <= .now { return ETIMEDOUT }
        if result < 0 && errno != EINTR { return errno }
    }
}

/// Until then, rounded up, so that it is over when they are.
private func milliseconds(until deadline: ContinuousClock.Instant) -> Int32 {
    let left = max(.zero, deadline - .now) / .milliseconds(1)
    return Int32(min(left.rounded(.up), Double(Int32.max)))
}

/// SO_ERROR
func pendingError(of socket: Int32) -> Int32 {
    (try? SocketOption.error.get(socket)) ?? EBADF
}
