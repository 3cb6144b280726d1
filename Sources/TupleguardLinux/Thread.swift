// SPDX-License-Identifier: Apache-2.0
// Threads of one's own: for what blocks, and for what changes the thread that it runs on.

import Glibc
package import TupleguardSockets

/// A POSIX thread. Whoever started it joins it; else it goes on alone.
///
/// Foundation's would cost 44 MB, and tasks run on as many threads as there are processors.
package struct Thread: ~Copyable {
    private let handle: pthread_t

    private final class Work: Sendable {
        let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) {
            self.body = body
        }
    }

    /// Starts it.
    ///
    /// - Throws: EAGAIN when there can be no more threads; `body` does not run then.
    package init(_ body: @escaping @Sendable () -> Void) throws(Errno) {
        let context = Unmanaged.passRetained(Work(body))
        var handle = pthread_t()
        let failure = pthread_create(
            &handle, nil,
            { context in
                Unmanaged<Work>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, context.toOpaque())
        guard failure == 0 else {
            context.release()
            throw Errno(failure)
        }
        self.handle = handle
    }

    /// Waits for its end.
    package consuming func join() {
        pthread_join(handle, nil)
        discard self
    }

    deinit {
        pthread_detach(handle)
    }

    /// Runs `body` on a thread that exists for this call only, and waits for it.
    package static func run<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) throws -> Value {
        // Written by the thread before it ends, read after that.
        nonisolated(unsafe) var result: Result<Value, any Error>?
        let thread = try Thread { result = Result(catching: body) }
        thread.join()
        return try result!.get()
    }
}
