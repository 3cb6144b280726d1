// SPDX-License-Identifier: Apache-2.0
// A file descriptor with one owner.

import CTupleguardLinux

/// A file descriptor that is closed exactly once, when its owner goes.
///
/// It cannot be copied, so neither can the duty to close it. (Kept in a class,
/// a handle may be released after its last use rather than at the end of the
/// scope; with a value that cannot be copied the end is where it is written.)
///
/// (Frozen, because Embedded Swift asks that of a type that `release` takes apart.)
@frozen
@usableFromInline
package struct OwnedDescriptor: ~Copyable, Sendable {
    /// The descriptor itself; borrowed, never to be closed by the caller.
    package let raw: Int32

    /// Takes over a descriptor that is open.
    package init(taking raw: Int32) {
        self.raw = raw
    }

    /// Takes over what a call returned, or throws what it left in `errno`.
    package init(_ call: () -> Int32) throws(Errno) {
        self.raw = try Errno.check(call)
    }

    /// Hands the descriptor over, with the duty to close it.
    package consuming func release() -> Int32 {
        let raw = raw
        discard self
        return raw
    }

    deinit {
        close(raw)
    }
}
