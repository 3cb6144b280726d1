// SPDX-License-Identifier: Apache-2.0
// connectx for Swift concurrency: no thread waits while TCP connects.

import ConnectxCore
import Dispatch
import Glibc
import Synchronization
import TupleguardSockets

/// Makes a socket and connects it, as the function of the same name that is not async.
///
/// Cancelling the task ends it with ECANCELED. The socket is made with SOCK_NONBLOCK when
/// `options.isNonBlocking` is set, and then it is returned connected all the same.
public func connectx(
    _ transport: Transport, to destination: Destination, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) async throws(ConnectError) -> Connection {
    let opening = Opening(transport, destination, source, options)
    var connection = try opening.open(isNonBlocking: transport == .tcp)
    var error: Int32 = 0
    if connection.result.state == .inProgress {
        error = await WritableWait(connection.descriptor.raw, timeout: options.timeout).run()
    }
    if connection.result.state != .deferred {
        try opening.finish(&connection, error)
        while try !opening.sendRest(&connection) {
            error = await WritableWait(connection.descriptor.raw, timeout: options.timeout).run()
            try opening.check(error, connection.tuple)
        }
    }
    return connection
}

/// The same to an endpoint without a scope.
public func connectx(
    _ transport: Transport, to endpoint: Endpoint, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) async throws(ConnectError) -> Connection {
    try await connectx(transport, to: Destination(endpoint), from: source, options: options)
}

/// Waits until a socket is connected, for a time, or until the task is cancelled.
private final class WritableWait: Sendable {
    private let socket: Int32
    private let timeout: Duration?
    private let queue = DispatchQueue(label: "connectx")
    private let state = Mutex(State())

    private struct State {
        var source: Source?
        var outcome: Int32?
    }

    /// Dispatch's own objects may be used from any thread; only their types do not say so.
    private struct Source: @unchecked Sendable {
        let source: any DispatchSourceWrite
    }

    init(_ socket: Int32, timeout: Duration?) {
        self.socket = socket
        self.timeout = timeout
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
        let source = DispatchSource.makeWriteSource(fileDescriptor: socket, queue: queue)
        source.setEventHandler { self.end(pendingError(of: self.socket)) }
        // Only then may the descriptor be closed (dispatch_source_set_cancel_handler).
        source.setCancelHandler {
            continuation.resume(returning: self.state.withLock { $0.outcome ?? ECANCELED })
        }
        if let timeout {
            let nanoseconds = min(timeout / .nanoseconds(1), 1e18)
            queue.asyncAfter(deadline: .now() + .nanoseconds(Int(max(0, nanoseconds)))) {
                [weak self] in self?.end(ETIMEDOUT)
            }
        }
        let kept = Source(source: source)
        let isOver = state.withLock { state in
            state.source = kept
            return state.outcome != nil
        }
        source.activate()
        if isOver { source.cancel() }
    }

    /// The first outcome counts.
    private func end(_ outcome: Int32) {
        let source = state.withLock { state in
            if state.outcome == nil { state.outcome = outcome }
            return state.source
        }
        source?.source.cancel()
    }
}
