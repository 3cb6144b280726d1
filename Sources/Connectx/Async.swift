// SPDX-License-Identifier: Apache-2.0
// Connecting for tasks: no thread waits while TCP connects.

import CTupleguardLinux
public import ConnectxCore
public import TupleguardSockets

extension Connectx {
    /// Makes a socket and connects it. No thread is kept waiting.
    ///
    /// | the caller gives | TCP | UDP |
    /// | --- | --- | --- |
    /// | destination | connect | source by route, port by discovery, then as below |
    /// | source address | IP_BIND_ADDRESS_NO_PORT, bind, connect | port by discovery, then as below |
    /// | source address and port | SO_REUSEADDR, bind, connect | the SO_REUSEADDR lock with the bind barrier, or under a guard bind and connect |
    ///
    /// `configure` sets options of the socket before it is connected.
    ///
    /// - Throws: `ConnectError`, which is `cancelled` when the task is. Nothing is left open.
    public static func connect(
        _ transport: Transport, to destination: Endpoint, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) async throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        let deadline = options.deadline
        let isNonBlocking = transport == .tcp || options.isNonBlocking
        var connection = try await opening.unlessContended { () throws(ConnectError) in
            try opening.open(
                transport, isNonBlocking: isNonBlocking, .failsAtOnce, configure)
        }
        try await opening.wait(for: &connection, until: deadline)
        if isNonBlocking != options.isNonBlocking {
            linux_set_blocking(connection.descriptor.raw, true)
        }
        return connection
    }

    /// The same to one of several destinations; to the next when all ports to one are busy.
    ///
    /// - Throws: `exhausted` when that is so for all; any other error of the destination whose turn
    ///   it is.
    public static func connect(
        _ transport: Transport, toAnyOf destinations: Destinations, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) async throws(ConnectError) -> Connection {
        try await destinations.awaitInTurn { destination async throws(ConnectError) in
            try await connect(
                transport, to: destination, from: source, options: options, configure: configure)
        }
    }

    /// The same with a socket of the caller's, which may be bound already, and which the connection
    /// then owns. (`takeDescriptor` gives it back.)
    ///
    /// `isNonBlocking` and `strategy` of the options do nothing: the socket keeps its O_NONBLOCK.
    ///
    /// - Throws: `ConnectError`. The socket is the caller's, as after `open(adopting:)`.
    public static func connect(
        adopting socket: Int32, to destination: Endpoint, from source: Source = .any,
        options: Options = Options()
    ) async throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        let deadline = options.deadline
        let adopted = try Adopted(socket)
        var connection = try await opening.unlessContended { () throws(ConnectError) in
            try opening.adopt(adopted, .failsAtOnce)
        }
        do throws(ConnectError) {
            try await opening.wait(for: &connection, until: deadline)
        } catch {
            opening.giveBack(connection, adopted)
            throw error
        }
        adopted.restoreBlocking()
        return connection
    }
}

extension Opening {
    /// For how long a named port that others are at is tried again: as long as the core does it.
    private static let contentionLimit = Duration.milliseconds(12)
    private static let contentionPause = Duration.microseconds(500)

    /// Runs `attempt` until others are out of its way, for a while.
    func unlessContended(_ attempt: () throws(ConnectError) -> Connection)
        async throws(ConnectError) -> Connection
    {
        let deadline = ContinuousClock.now + Self.contentionLimit
        while true {
            if Task.isCancelled { throw error(.cancelled, ECANCELED) }
            do throws(ConnectError) {
                return try attempt()
            } catch {
                guard error.reason == .contended, !options.failsWhenContended else { throw error }
                guard ContinuousClock.now < deadline else {
                    throw ConnectError(.conflict, error.errno, error.tuple)
                }
            }
            // Cancelled it returns at once, and the loop tells.
            try? await Task.sleep(for: Self.contentionPause)
        }
    }

    /// Waits until the other side has answered, and the first data is sent.
    func wait(for connection: inout Connection, until deadline: ContinuousClock.Instant?)
        async throws(ConnectError)
    {
        guard connection.state != .deferred else { return }
        let raw = connection.descriptor.raw
        if connection.state == .inProgress {
            try finish(&connection, await Wait(for: [raw], until: deadline).run().error)
        }
        while try !sendRest(&connection) {
            try check(await Wait(for: [raw], until: deadline).run().error, connection.tuple)
        }
    }
}
