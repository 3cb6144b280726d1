// SPDX-License-Identifier: Apache-2.0
// errno as an error: its names, and the calls that set it.

import Glibc
import Testing

@testable import TupleguardSockets

struct ErrnoTests {
    @Test(
        "A number has its symbolic name",
        arguments: [
            (EPERM, "EPERM"), (EADDRNOTAVAIL, "EADDRNOTAVAIL"), (EADDRINUSE, "EADDRINUSE"),
            (ENOENT, "ENOENT"), (EINTR, "EINTR"),
        ])
    func names(number: Int32, name: String) {
        #expect(Errno(number).name == name)
        #expect(Errno(number).number == number)
    }

    @Test("A number that is no errno is named by itself", arguments: [4711, -1, .max])
    func unnamed(number: Int32) {
        #expect(Errno(number).name == "errno \(number)")
        #expect(Errno(number).description.hasSuffix("(errno \(number))"))
    }

    @Test("The description has the system's words and the name")
    func description() {
        #expect(Errno(EPERM).description == "Operation not permitted (EPERM)")
    }

    @Test("The last error of this thread")
    func last() {
        errno = EXDEV
        #expect(Errno.last == Errno(EXDEV))
    }

    @Test("A call that succeeds is made once, and its result handed on", arguments: [0, 1, 4711])
    func success(result: Int) throws {
        var calls = 0
        let answer = try Errno.check { () -> Int in
            calls += 1
            errno = EPERM  // left by somebody else; a call that succeeds does not clear it
            return result
        }
        #expect(answer == result)
        #expect(calls == 1)
    }

    @Test("A call that was interrupted is made again")
    func interrupted() throws {
        var calls = 0
        let answer = try Errno.check { () -> Int32 in
            calls += 1
            errno = EINTR
            return calls < 4 ? -1 : 17
        }
        #expect(answer == 17)
        #expect(calls == 4)
    }

    @Test("A call that fails otherwise is made once, and its errno thrown")
    func failure() {
        var calls = 0
        #expect(throws: Errno(EACCES)) {
            try Errno.check { () -> Int32 in
                calls += 1
                errno = EACCES
                return -1
            }
        }
        #expect(calls == 1)
    }

    @Test("Anything below zero is a failure: libbpf answers -errno")
    func negativeAnswers() {
        #expect(throws: Errno(EINVAL)) {
            try Errno.check { () -> Int in
                errno = EINVAL
                return -Int(EINVAL)
            }
        }
    }

    @Test("Interrupted first, failed then")
    func interruptedThenFailed() {
        var calls = 0
        #expect(throws: Errno(EIO)) {
            try Errno.check { () -> Int32 in
                calls += 1
                errno = calls == 1 ? EINTR : EIO
                return -1
            }
        }
        #expect(calls == 2)
    }

    @Test("A real system call")
    func systemCall() throws {
        #expect(throws: Errno(EBADF)) { try Errno.check { fcntl(-1, F_GETFD) } }
        #expect(try Errno.check { fcntl(STDERR_FILENO, F_GETFD) } >= 0)
    }
}
