// SPDX-License-Identifier: Apache-2.0
// Threads for what blocks: a task must not, for there are only as many as processors.

import ServiceLifecycle
import TupleguardLinux

/// Runs `body` on a thread of its own until graceful shutdown, and waits for its end.
///
/// - Parameter stop: makes `body` return; called once, at shutdown.
/// - Throws: `Errno` when no thread can be made.
func runOnThread(_ body: @escaping @Sendable () -> Void, stop: () -> Void) async throws {
    let (ended, end) = AsyncStream.makeStream(of: Void.self)
    let thread = try Thread {
        body()
        end.finish()
    }
    try? await gracefulShutdown()
    stop()
    for await _ in ended {}
    thread.join()
}
