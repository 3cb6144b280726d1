// SPDX-License-Identifier: Apache-2.0
// Threads for what blocks: a task must not, for there are only as many as processors.

import Glibc
import ServiceLifecycle
import TupleguardSockets

/// Runs `body` on a thread of its own until graceful shutdown, and waits for its end.
///
/// - Parameter stop: makes `body` return; called once, at shutdown.
/// - Throws: `Errno` when no thread can be made.
func runOnThread(_ body: @escaping @Sendable () -> Void, stop: () -> Void) async throws {
    let (ended, end) = AsyncStream.makeStream(of: Void.self)
    let thread = Thread {
        body()
        end.finish()
    }
    try thread.start()
    try? await gracefulShutdown()
    stop()
    for await _ in ended {}
    thread.join()
}

/// A POSIX thread, joined by whoever started it.
private final class Thread: @unchecked Sendable {
    private let body: @Sendable () -> Void
    private var handle = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        self.body = body
    }

    func start() throws(Errno) {
        let context = Unmanaged.passRetained(self)
        let failure = pthread_create(
            &handle, nil,
            { context in
                Unmanaged<Thread>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, context.toOpaque())
        if failure != 0 {
            context.release()
            throw Errno(failure)
        }
    }

    func join() {
        pthread_join(handle, nil)
    }
}
