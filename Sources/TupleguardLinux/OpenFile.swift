// SPDX-License-Identifier: Apache-2.0
// Opening a file as a descriptor with one owner.

import Glibc
package import TupleguardSockets

extension OwnedDescriptor {
    /// Opens a file, close-on-exec (open(2)).
    package init(path: String, flags: Int32) throws(Errno) {
        try self.init { open(path, flags | O_CLOEXEC) }
    }
}
