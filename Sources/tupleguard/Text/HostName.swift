// SPDX-License-Identifier: Apache-2.0
// What this host calls itself, for what is read elsewhere.

import Glibc
import TupleguardRecords

/// By uname(2), without what a terminal or a page would take for more than a name.
var hostName: String {
    var name = utsname()
    uname(&name)
    return withUnsafeBytes(of: &name.nodename) { commandName($0) }
}
