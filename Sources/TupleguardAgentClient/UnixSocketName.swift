// SPDX-License-Identifier: Apache-2.0
// Names of Unix sockets in the kernel's form.

package import Glibc

/// A `sockaddr_un`: a path, or an abstract name, which is written with "@" first (unix(7)).
package struct UnixSocketName {
    private var name = sockaddr_un()
    private let length: socklen_t

    /// Nil for a name that there is no room for (more than 107 bytes).
    package init?(_ path: String) {
        var bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return nil }
        if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    }

    /// Calls `body` with what bind, connect and sendto want.
    package func withSocketAddress<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        withUnsafePointer(to: name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
