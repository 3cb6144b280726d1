// SPDX-License-Identifier: Apache-2.0
// Threads that work side by side in the caller's network namespace.

import Glibc
import TupleguardSockets

/// Runs `body` on so many threads at once, each with its number and a kit of its own, and waits for
/// all.
///
/// - Throws: when there are no descriptors or threads left; nothing has run then.
func onThreads(kits count: Int, _ body: @escaping @Sendable (Int, inout Kit) -> Void) throws(Errno)
{
    let team = Team(body)
    for _ in 0..<count { try team.addKit() }
    try team.run(count)
}

/// What the threads share. They start together or not at all: who is missing would keep the
/// others waiting at a barrier.
private final class Team: @unchecked Sendable {
    private let body: @Sendable (Int, inout Kit) -> Void
    /// Each is one thread's alone once that runs.
    private var kits: [UnsafeMutablePointer<Kit>] = []
    private var gate = pthread_mutex_t()
    private var next = 0
    private var isCalledOff = false

    init(_ body: @escaping @Sendable (Int, inout Kit) -> Void) {
        self.body = body
        pthread_mutex_init(&gate, nil)
    }

    deinit {
        for kit in kits {
            kit.deinitialize(count: 1)
            kit.deallocate()
        }
        pthread_mutex_destroy(&gate)
    }

    func addKit() throws(Errno) {
        let kit = try Kit()
        let pointer = UnsafeMutablePointer<Kit>.allocate(capacity: 1)
        pointer.initialize(to: kit)
        kits.append(pointer)
    }

    func run(_ count: Int) throws(Errno) {
        pthread_mutex_lock(&gate)
        var threads: [pthread_t] = []
        var failure: Int32 = 0
        while threads.count < count && failure == 0 {
            var thread = pthread_t()
            failure = pthread_create(
                &thread, nil,
                { team in
                    Unmanaged<Team>.fromOpaque(team!).takeUnretainedValue().work()
                    return nil
                }, Unmanaged.passUnretained(self).toOpaque())
            if failure == 0 { threads.append(thread) }
        }
        isCalledOff = failure != 0
        pthread_mutex_unlock(&gate)
        for thread in threads { pthread_join(thread, nil) }
        if failure != 0 { throw Errno(failure) }
    }

    private func work() {
        pthread_mutex_lock(&gate)
        let number = next
        next += 1
        let goesOn = !isCalledOff
        pthread_mutex_unlock(&gate)
        if goesOn { body(number, &kits[number].pointee) }
    }
}
