// SPDX-License-Identifier: Apache-2.0
// What a program asks of its own process: the time, and room for descriptors.

import Glibc
import TupleguardSockets

/// CLOCK_MONOTONIC in nanoseconds.
package func monotonicTime() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// As many descriptors as this process may have (RLIMIT_NOFILE): crowds of sockets need them.
///
/// - Returns: how many that is.
@discardableResult
package func raiseDescriptorLimit() -> Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
    limit.rlim_cur = limit.rlim_max
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
}
