// SPDX-License-Identifier: Apache-2.0
// A socket that is kept between calls, in a program that may close it.

import CTupleguardLinux

/// A socket with one owner, which a program may close behind that owner's back (closefrom(3)), so
/// that its number is somebody else's by then.
///
/// It knows itself by its cookie, and closes only what is still it.
@frozen @usableFromInline
package struct KeptSocket: ~Copyable {
    /// Borrowed; ours only while `isIntact`.
    package let raw: Int32
    /// SO_COOKIE
    private let cookie: UInt64

    package init(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        cookie = try SocketOption.cookie.get(descriptor.raw)
        raw = descriptor.release()
    }

    deinit {
        if isIntact { close(raw) }
    }

    /// Whether the descriptor is still this socket's.
    package var isIntact: Bool {
        do throws(Errno) {
            return try SocketOption.cookie.get(raw) == cookie
        } catch {
            return false
        }
    }
}
