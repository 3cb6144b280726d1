// SPDX-License-Identifier: Apache-2.0
// The address that a held bind() was given, read from the memory of the process that calls.

import CTupleguardSeccomp
import Glibc
package import TupleguardSockets

extension SocketName {
    /// Nil where it is none of IP.
    ///
    /// - Parameters:
    ///   - thread: of the process that calls, as this process numbers it.
    ///   - length: what the process says; any number.
    /// - Throws: EFAULT where the process has no such memory, or why it may not be read.
    package static func read(
        fromThread thread: UInt32, at address: UInt64, length: UInt32
    ) throws(Errno) -> SocketName? {
        try withUnsafeTemporaryAllocation(
            byteCount: MemoryLayout<sockaddr_in6>.size,
            alignment: MemoryLayout<sockaddr_in6>.alignment
        ) { bytes throws(Errno) in
            // A longer one is as good (inet6_bind).
            let most = min(Int(length), bytes.count)
            let count = try Errno.check {
                seccomp_read_memory(thread, address, bytes.baseAddress, most)
            }
            return try? SocketName(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        }
    }
}
