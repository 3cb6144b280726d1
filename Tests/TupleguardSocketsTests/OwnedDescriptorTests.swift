// SPDX-License-Identifier: Apache-2.0
// A descriptor is closed once, at the end of its owner's scope and not before.

import Glibc
import Testing

@testable import TupleguardSockets

// One at a time, on numbers that nobody else gets: the kernel gives out the
// lowest free one, so that a low number that was closed may be another test's.
// These are the last that a process may have.
@Suite(.serialized)
struct OwnedDescriptorTests {
    private static let firstNumber: Int32 = {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return Int32(min(limit.rlim_cur, 1 << 20)) - 16
    }()

    private func openDescriptor() throws -> Int32 {
        try Errno.check { fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, Self.firstNumber) }
    }

    private func isOpen(_ raw: Int32) -> Bool { fcntl(raw, F_GETFD) >= 0 }

    @Test("Open until the end of the scope, closed after it")
    func scope() throws {
        let number = try openDescriptor()
        do {
            let owner = OwnedDescriptor(taking: number)
            let raw = owner.raw  // the owner's last use
            #expect(raw == number)
            #expect(isOpen(number))
            #expect(fcntl(number, F_GETFL) >= 0)
        }
        #expect(!isOpen(number))
        #expect(errno == EBADF)
    }

    @Test("Closed when the scope is left by an error")
    func thrown() throws {
        let number = try openDescriptor()
        func fail() throws {
            let owner = OwnedDescriptor(taking: number)
            #expect(isOpen(owner.raw))
            throw Errno(EIO)
        }
        #expect(throws: Errno(EIO)) { try fail() }
        #expect(!isOpen(number))
    }

    @Test("Closed by the last owner alone, and once")
    func handedOn() throws {
        func end(_ owner: consuming OwnedDescriptor) {
            #expect(isOpen(owner.raw))
        }
        let number = try openDescriptor()
        do {
            let first = OwnedDescriptor(taking: number)
            let second = first
            end(second)
            #expect(!isOpen(number))
            // Somebody else's now: neither former owner may touch it.
            try Errno.check { dup2(STDERR_FILENO, number) }
        }
        #expect(isOpen(number))
        close(number)
    }

    @Test("As a part of another value it lives as long as that")
    func member() throws {
        struct Holder: ~Copyable {
            let descriptor: OwnedDescriptor
        }
        let number = try openDescriptor()
        do {
            let holder = Holder(descriptor: OwnedDescriptor(taking: number))
            #expect(holder.descriptor.raw == number)
            #expect(isOpen(number))
        }
        #expect(!isOpen(number))
    }

    @Test("What a call returned is taken over")
    func takenFromCall() throws {
        var number: Int32 = -1
        do {
            let owner = try OwnedDescriptor {
                fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, Self.firstNumber)
            }
            number = owner.raw
            #expect(isOpen(number))
        }
        #expect(number >= Self.firstNumber)
        #expect(!isOpen(number))
    }

    @Test("A call that failed gives no owner, but its errno")
    func failedCall() {
        #expect(throws: Errno(EMFILE)) {
            _ = try OwnedDescriptor {
                errno = EMFILE
                return -1
            }
        }
    }
}
