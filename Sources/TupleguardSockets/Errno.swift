// SPDX-License-Identifier: Apache-2.0
// errno as a Swift error.

import CTupleguardLinux

/// An error number of a system call (errno(3)), with its symbolic name.
package struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    /// As C's `errno` has it: EPERM, EADDRINUSE and so on.
    package let number: Int32

    /// An error from its number.
    package init(_ number: Int32) {
        self.number = number
    }

    /// What the last failed call of this thread left in `errno`.
    package static var last: Errno { Errno(linux_errno()) }

    /// The symbolic name, such as "EPERM", or "errno 4711" for a number without one.
    package var name: String {
        linux_errno_name(number).map { String(cString: $0) } ?? "errno \(number)"
    }

    /// The system's own words: "Operation not permitted (EPERM)".
    package var description: String {
        "\(String(cString: strerror(number))) (\(name))"
    }

    /// Runs a call that answers below zero and sets `errno` when it fails (libbpf's answer
    /// -errno); EINTR starts it again.
    @discardableResult
    package static func check<Result: SignedInteger>(_ call: () -> Result) throws(Errno) -> Result {
        while true {
            let result = call()
            if result >= 0 { return result }
            if linux_errno() != EINTR { throw .last }
        }
    }
}
