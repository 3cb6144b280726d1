// SPDX-License-Identifier: Apache-2.0
// Waiting for sockets in a task, without a thread.

import CTupleguardLinux
import Dispatch
import Synchronization

/// Waits until one of some sockets is connected or can be written to, until a time, until somebody
/// says so, or until the task is cancelled.
///
/// All waits share one queue of Dispatch, and so one thread, which only takes down what happened.
final class Wait: Sendable {
    /// What a wait came to.
    struct Event: Sendable {
        /// Which socket it was, or -1.
        var socket: Int32 = -1
        /// 0, or an error's number: the socket's own, ETIMEDOUT, ECANCELED.
        var error: Int32
    }

    private static let queue = DispatchQueue(label: "connectx")

    private let sockets: [Int32]
    private let deadline: ContinuousClock.Instant?
    private let state = Mutex(State())

    private struct State {
        var continuation: CheckedContinuation<Event, Never>?
        var event: Event?
        var sources: [Source] = []
        /// Sources that Dispatch still watches a descriptor for.
        var watched = 0
    }

    /// Dispatch's own objects may be used from any thread; only their types do not say so.
    private struct Source: @unchecked Sendable {
        let source: any DispatchSourceProtocol
    }

    init(for sockets: [Int32], until deadline: ContinuousClock.Instant?) {
        self.sockets = sockets
        self.deadline = deadline
    }

    /// Waits. When it returns no socket is watched any more, and there is no timer.
    func run() async -> Event {
        await withTaskCancellationHandler {
            await withCheckedContinuation { start($0) }
        } onCancel: {
            end(Event(error: ECANCELED))
        }
    }

    /// Ends the wait; the first event counts.
    func end(_ event: Event) {
        state.withLock { state in
            if state.event == nil { state.event = event }
        }
        cancelSources()
    }

    private func start(_ continuation: CheckedContinuation<Event, Never>) {
        let watchers = sockets.map(makeWatcher)
        let sources = watchers + (deadline.map { [makeTimer($0)] } ?? [])
        let isOver = state.withLock { state in
            state.continuation = continuation
            state.sources = sources
            state.watched = watchers.count
            return state.event != nil
        }
        for source in sources { source.source.activate() }
        if isOver { cancelSources() }
    }

    private func makeWatcher(_ socket: Int32) -> Source {
        let source = DispatchSource.makeWriteSource(fileDescriptor: socket, queue: Self.queue)
        source.setEventHandler {
            self.end(Event(socket: socket, error: pendingError(of: socket)))
        }
        // Only then may the descriptor be closed (dispatch_source_set_cancel_handler).
        source.setCancelHandler {
            self.state.withLock { $0.watched -= 1 }
            self.resumeIfOver()
        }
        return Source(source: source)
    }

    private func makeTimer(_ deadline: ContinuousClock.Instant) -> Source {
        let timer = DispatchSource.makeTimerSource(queue: Self.queue)
        let nanoseconds = min(max(0, (deadline - .now) / Duration.nanoseconds(1)), 1e18)
        timer.schedule(deadline: .now() + .nanoseconds(Int(nanoseconds)))
        timer.setEventHandler { self.end(Event(error: ETIMEDOUT)) }
        return Source(source: timer)
    }

    /// Their handlers hold this object, and it holds them, until here.
    private func cancelSources() {
        let sources = state.withLock { state in
            defer { state.sources = [] }
            return state.sources
        }
        for source in sources { source.source.cancel() }
        resumeIfOver()
    }

    private func resumeIfOver() {
        let (continuation, event) = state.withLock { state in
            let isOver = state.event != nil && state.watched == 0
            defer { if isOver { state.continuation = nil } }
            return (isOver ? state.continuation : nil, state.event)
        }
        if let event { continuation?.resume(returning: event) }
    }
}
