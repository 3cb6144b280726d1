// SPDX-License-Identifier: Apache-2.0
// Room for descriptors in this process.

import Glibc

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
