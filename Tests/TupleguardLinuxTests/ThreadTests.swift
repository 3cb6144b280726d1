// SPDX-License-Identifier: Apache-2.0
// Work on a thread of its own.

import Glibc
import Synchronization
import Testing
import TupleguardLinux
import TupleguardSockets

struct ThreadTests {
    @Test("The body runs once, on another thread, and has ended when the call returns")
    func ownThread() throws {
        let calls = Atomic<Int>(0)
        let caller = UInt(pthread_self())
        let thread = try Thread.run { () -> UInt in
            calls.add(1, ordering: .relaxed)
            return UInt(pthread_self())
        }
        #expect(thread != caller)
        let count = calls.load(ordering: .relaxed)
        #expect(count == 1)
    }

    @Test("Values and errors come back as they are")
    func results() throws {
        let text = try Thread.run { "a value that lives on the heap, not inline" }
        #expect(text.hasSuffix("not inline"))
        #expect(throws: Errno(EDOM)) { try Thread.run { () throws -> Int in throw Errno(EDOM) } }
    }

    @Test("What the body captured is released with the call")
    func released() throws {
        final class Witness: Sendable {}
        weak var witness: Witness?
        do {
            let strong = Witness()
            witness = strong
            _ = try Thread.run { withExtendedLifetime(strong) { 1 } }
        }
        #expect(witness == nil)
    }

    @Test("One such thread can use another")
    func nested() throws {
        let isAnother = try Thread.run {
            try Thread.run { UInt(pthread_self()) } != UInt(pthread_self())
        }
        #expect(isAnother)
    }

    @Test("errno is a thread's own")
    func ownErrno() throws {
        errno = EXDEV
        try Thread.run { errno = EDOM }
        #expect(try Thread.run { errno } != EDOM)
    }

    @Test("A thread has ended when it is joined")
    func joined() throws {
        let hasEnded = Atomic<Bool>(false)
        let thread = try Thread {
            usleep(20_000)
            hasEnded.store(true, ordering: .releasing)
        }
        thread.join()
        let ended = hasEnded.load(ordering: .acquiring)
        #expect(ended)
    }
}
