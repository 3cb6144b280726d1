// SPDX-License-Identifier: Apache-2.0
// Opening a file as a descriptor with one owner.

import Glibc
package import TupleguardSockets

extension OwnedDescriptor {
    /// Opens a file, close-on-exec (open(2)); one whose name is not UTF-8, too, by what `fileName`
    /// makes of that.
    package init(path: String, flags: Int32) throws(Errno) {
        do throws(Errno) {
            try self.init { open(path, flags | O_CLOEXEC) }
        } catch let error where error.number == ENOENT && path.contains("\\x") {
            let bytes = fileNameBytes(path).map { CChar(bitPattern: $0) } + [0]
            try self.init { open(bytes, flags | O_CLOEXEC) }
        }
    }
}
