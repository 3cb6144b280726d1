// SPDX-License-Identifier: Apache-2.0
// On which processors a thread may run, and on which it does.

import CTupleguardLinux
import Glibc
package import TupleguardSockets

package enum Processors {
    /// By number, those that the calling thread may run on; empty where it may not ask.
    package static var allowed: [Int32] {
        var found: [Int32] = []
        var next: Int32 = 0
        while case let number = linux_next_processor(next), number >= 0 {
            found.append(number)
            next = number + 1
        }
        return found
    }

    /// How many handle packets and run programs.
    package static var onlineCount: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// Keeps the calling thread on one, from now on.
    package static func stay(on number: Int32) throws(Errno) {
        try Errno.check { linux_move_to_processor(number) }
    }
}
