// SPDX-License-Identifier: Apache-2.0
// Connecting for tasks: no thread waits while TCP connects.

import CTupleguardLinux
public import ConnectxCore
import Dispatch
import Synchronization
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
    /// - Parameter configure: sets options of the socket before it is connected.
    /// - Throws: `ConnectError`, which is `cancelled` when the task is. Nothing is left open.
    public static func connect(
        _ transport: Transport, to destination: Endpoint, from source: Source = .any,
        options: Options = Options(), configure: Configuration? = nil
    ) async throws(ConnectError) -> Connection {
        let opening = Opening(destination: destination, source: source, options: options)
        let isNonBlocking = transport == .tcp || options.isNonBlocking
        var connection = try await opening.unlessContended { () throws(ConnectError) in
            try opening.open(
                transport, isNonBlocking: isNonBlocking, .failsAtOnce, configure)
        }
        try await opening.wait(for: &connection)
        linux_set_blocking(connection.descriptor.raw, !options.isNonBlocking)
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
        let wasBlocking = linux_is_blocking(socket)
        var connection = try await opening.unlessContended { () throws(ConnectError) in
            try opening.adopt(socket, .failsAtOnce)
        }
        do throws(ConnectError) {
            try await opening.wait(for: &connection)
        } catch {
            Opening.giveBack(connection, isBlocking: wasBlocking)
            throw error
        }
        linux_set_blocking(socket, wasBlocking)
        return connection
    }
}

extension Opening {
    /// For how long a named port that others are at is tried again: as long as the core does it.
    private static let contentionLimit = Duration.milliseconds(12)
    private static let contentionPause = Duration.microseconds(500)

    /// Runs `attempt` until others are out of its way, for a while.
    fileprivate func unlessContended(_ attempt: () throws(ConnectError) -> Connection)
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
    fileprivate func wait(for connection: inout Connection) async throws(ConnectError) {
        guard connection.state != .deferred else { return }
        let deadline = options.timeout.map { DispatchTime.now() + $0 }
        let raw = connection.descriptor.raw
        if connection.state == .inProgress {
            try finish(&connection, await WritableWait(raw, until: deadline).run())
        }
        while try !sendRest(&connection) {
            try check(await WritableWait(raw, until: deadline).run(), connection.tuple)
        }
    }
}

extension DispatchTime {
    fileprivate static func + (time: DispatchTime, duration: Duration) -> DispatchTime {
        let nanoseconds = min(max(0, duration / Duration.nanoseconds(1)), 1e18)
        return time + DispatchTimeInterval.nanoseconds(Int(nanoseconds))
    }
}

/// Waits until a socket is connected or can be written to, until a time, or until the task is
/// cancelled.
///
/// All waits share one queue, and so one thread, which does nothing but take down what happened.
private final class WritableWait: Sendable {
    private static let queue = DispatchQueue(label: "connectx")

    private let socket: Int32
    private let deadline: DispatchTime?
    private let state = Mutex(State())

    private struct State {
        var source: WriteSource?
        var timer: Timer?
        var outcome: Int32?
    }

    // Dispatch's own objects may be used from any thread; only their types do not say so.
    private struct WriteSource: @unchecked Sendable {
        let source: any DispatchSourceWrite
    }
    private struct Timer: @unchecked Sendable {
        let source: any DispatchSourceTimer
    }

    init(_ socket: Int32, until deadline: DispatchTime?) {
        self.socket = socket
        self.deadline = deadline
    }

    /// 0, or an error's number. When it returns the socket is watched no more.
    func run() async -> Int32 {
        await withTaskCancellationHandler {
            await withCheckedContinuation { start($0) }
        } onCancel: {
            end(ECANCELED)
        }
    }

    private func start(_ continuation: CheckedContinuation<Int32, Never>) {
        let source = DispatchSource.makeWriteSource(fileDescriptor: socket, queue: Self.queue)
        source.setEventHandler { self.end(pendingError(of: self.socket)) }
        // Only then may the descriptor be closed (dispatch_source_set_cancel_handler).
        source.setCancelHandler {
            continuation.resume(returning: self.state.withLock { $0.outcome ?? ECANCELED })
        }
        let timer = deadline.map { makeTimer($0) }
        let kept = WriteSource(source: source)
        let isOver = state.withLock { state in
            state.source = kept
            state.timer = timer
            return state.outcome != nil
        }
        source.activate()
        timer?.source.activate()
        if isOver { cancelSources() }
    }

    private func makeTimer(_ deadline: DispatchTime) -> Timer {
        let timer = DispatchSource.makeTimerSource(queue: Self.queue)
        timer.schedule(deadline: deadline)
        timer.setEventHandler { self.end(ETIMEDOUT) }
        return Timer(source: timer)
    }

    /// The first outcome counts.
    private func end(_ outcome: Int32) {
        state.withLock { state in
            if state.outcome == nil { state.outcome = outcome }
        }
        cancelSources()
    }

    /// With their handlers they hold this object, and it holds them, until here.
    private func cancelSources() {
        let (source, timer) = state.withLock { state in
            defer { (state.source, state.timer) = (nil, nil) }
            return (state.source, state.timer)
        }
        source?.source.cancel()
        timer?.source.cancel()
    }
}
