// SPDX-License-Identifier: Apache-2.0
// Connecting without waiting, and connecting on a thread that may be kept waiting.

import CTupleguardLinux
public import ConnectxCore
public import TupleguardSockets

extension Connectx {
    // MARK: - Never waits

    /// Makes a socket and connects it as far as that goes without waiting.
    ///
    /// A UDP socket is connected. A TCP socket, which gets O_NONBLOCK, may be under way
    /// (`Outcome.State.inProgress`): wait until it can be written to, then read SO_ERROR. A UDP
    /// port that was named, and that others are at, fails as `contended`. (The system calls take
    /// some 20 us, and up to some milliseconds when nearly all ports to the destination are busy
    /// and the kernel has to list who has them.)
    ///
    /// Which calls are made: see `connect(_:to:from:options:configure:)`.
    ///
    /// `configure` sets options of the socket before it is connected.
    ///
    /// - Throws: `ConnectError`. Nothing is left open.
    public static func open(
        _ transport: Transport, to destination: Endpoint, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        return try opening.open(
            transport, isNonBlocking: transport == .tcp || options.isNonBlocking, .failsAtOnce,
            configure)
    }

    /// The same to one of several destinations; to the next when all ports to one are busy.
    ///
    /// - Throws: `exhausted` when that is so for all; any other error of the destination whose turn
    ///   it is.
    public static func open(
        _ transport: Transport, toAnyOf destinations: Destinations, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        try destinations.connectInTurn { destination throws(ConnectError) in
            try open(
                transport, to: destination, from: source, options: options, configure: configure)
        }
    }

    /// The same with a socket of the caller's, which may be bound already, and which the connection
    /// then owns. (`takeDescriptor` gives it back.) A TCP socket gets O_NONBLOCK.
    ///
    /// `isNonBlocking`, `timeout` and `strategy` of the options do nothing.
    ///
    /// - Throws: `ConnectError`. The socket is the caller's as before. It has its options back and
    ///   is unbound again, except: a TCP socket whose port was named stays bound to it, and so does
    ///   a UDP socket whose port was named and is outside ip_local_port_range, or on a kernel
    ///   without IP_LOCAL_PORT_RANGE (before Linux 6.3); one that was bound to an interface stays
    ///   bound to that.
    public static func open(
        adopting socket: Int32, to destination: Endpoint, from source: Source = .any,
        options: Options = Options()
    ) throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        return try opening.adopt(Adopted(socket), .failsAtOnce)
    }

    // MARK: - Waits

    /// Makes a socket and connects it. The calling thread waits while a TCP connection is opened.
    ///
    /// Which calls are made: see `connect(_:to:from:options:configure:)`, which is for tasks: they
    /// must not block.
    ///
    /// `configure` sets options of the socket before it is connected.
    ///
    /// - Throws: `ConnectError`. Nothing is left open.
    @available(*, noasync, message: "it blocks; await Connectx.connect, or use Connectx.open")
    public static func connectBlocking(
        _ transport: Transport, to destination: Endpoint, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        let deadline = options.deadline
        // connect(2) itself waits where it may do so for ever.
        let isNonBlocking = options.isNonBlocking || transport == .tcp && options.timeout != nil
        var connection = try opening.open(
            transport, isNonBlocking: isNonBlocking, opening.patience(.waits), configure)
        try opening.waitBlocking(for: &connection, until: deadline)
        if isNonBlocking != options.isNonBlocking {
            linux_set_blocking(connection.descriptor.raw, true)
        }
        return connection
    }

    /// The same to one of several destinations; to the next when all ports to one are busy.
    ///
    /// - Throws: `exhausted` when that is so for all; any other error of the destination whose turn
    ///   it is.
    @available(*, noasync, message: "it blocks; await Connectx.connect, or use Connectx.open")
    public static func connectBlocking(
        _ transport: Transport, toAnyOf destinations: Destinations, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) throws(ConnectError) -> Connection {
        try destinations.connectInTurn { destination throws(ConnectError) in
            try connectBlocking(
                transport, to: destination, from: source, options: options, configure: configure)
        }
    }

    /// The same with a socket of the caller's, which may be bound already, and which the connection
    /// then owns. (`takeDescriptor` gives it back.)
    ///
    /// `isNonBlocking` and `strategy` of the options do nothing: the socket keeps its O_NONBLOCK,
    /// with which a named port that others are at is not tried again.
    ///
    /// - Throws: `ConnectError`. The socket is the caller's, as after `open(adopting:)`.
    @available(*, noasync, message: "it blocks; await Connectx.connect, or use Connectx.open")
    public static func connectBlocking(
        adopting socket: Int32, to destination: Endpoint, from source: Source = .any,
        options: Options = Options()
    ) throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        let deadline = options.deadline
        let adopted = try Adopted(socket)
        var connection = try opening.adopt(adopted, opening.patience(.asSocket))
        do throws(ConnectError) {
            try opening.waitBlocking(for: &connection, until: deadline)
        } catch {
            opening.giveBack(connection, adopted)
            throw error
        }
        adopted.restoreBlocking()
        return connection
    }
}

extension Opening {
    /// Waits until the other side has answered, and the first data is sent.
    func waitBlocking(for connection: inout Connection, until deadline: ContinuousClock.Instant?)
        throws(ConnectError)
    {
        guard connection.state != .deferred else { return }
        let raw = connection.descriptor.raw
        if connection.state == .inProgress {
            try finish(&connection, Wait.blocking(for: [raw], until: deadline).error)
        }
        while try !sendRest(&connection) {
            try check(Wait.blocking(for: [raw], until: deadline).error, connection.tuple)
        }
    }
}

extension Wait {
    /// What `run` does, with poll(2) on the calling thread.
    static func blocking(for sockets: [Int32], until deadline: ContinuousClock.Instant?) -> Event {
        var polled = sockets.map { pollfd(fd: $0, events: Int16(POLLOUT), revents: 0) }
        while true {
            let result = poll(&polled, nfds_t(polled.count), deadline.map(milliseconds) ?? -1)
            let error = linux_errno()
            if result > 0, let ready = polled.first(where: { $0.revents != 0 }) {
                return Event(socket: ready.fd, error: pendingError(of: ready.fd))
            }
            if result == 0, let deadline, deadline <= .now { return Event(error: ETIMEDOUT) }
            if result < 0 && error != EINTR { return Event(error: error) }
        }
    }
}

/// Until then, rounded up, so that it is over when they are.
private func milliseconds(until deadline: ContinuousClock.Instant) -> Int32 {
    let left = max(.zero, deadline - .now) / .milliseconds(1)
    return Int32(min(left.rounded(.up), Double(Int32.max)))
}
