// SPDX-License-Identifier: Apache-2.0
// Threads for what blocks: a task must not, for there are only as many as processors.

import Dispatch
import ServiceLifecycle
import Synchronization
import TupleguardLinux

/// Runs `body` on a thread of its own until graceful shutdown, or until it returns by itself, and
/// waits for its end.
///
/// - Parameter stop: makes `body` return; called at shutdown.
/// - Throws: `Errno` when no thread can be made.
func runOnThread(
    _ body: @escaping @Sendable () -> Void, stop: @escaping @Sendable () -> Void
) async throws {
    let (ended, end) = AsyncStream.makeStream(of: Void.self)
    let thread = try Thread {
        body()
        end.finish()
    }
    await withGracefulShutdownHandler {
        for await _ in ended {}
    } onGracefulShutdown: {
        stop()
    }
    // The stream also ends when this task is cancelled, and then nobody has told the thread.
    stop()
    thread.join()
}

/// What a thread that sleeps most of the time is woken for.
final class Bell: Sendable {
    /// Since the last time that somebody listened.
    struct Calls: OptionSet {
        let rawValue: Int
        static let stop = Calls(rawValue: 1)
        static let reload = Calls(rawValue: 2)
    }

    private let calls = Mutex(Calls())
    private let rung = DispatchSemaphore(value: 0)

    func ring(_ call: Calls) {
        calls.withLock { _ = $0.insert(call) }
        rung.signal()
    }

    /// Waits for a call, or so long.
    func listen(for time: Duration) -> Calls {
        _ = rung.wait(timeout: .now() + .nanoseconds(max(0, Int(time / .nanoseconds(1)))))
        return calls.withLock { calls in
            // To stop is not taken back.
            defer { calls.formIntersection(.stop) }
            return calls
        }
    }
}
