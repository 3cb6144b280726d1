// SPDX-License-Identifier: Apache-2.0
// A folder that looks like /proc, for the time of one test.

import Glibc
package import TupleguardLinux
import TupleguardSockets

/// Calls `body` with a /proc that has these files and nothing else.
package func withTemporaryProc<Result>(
    files: [String: String], _ body: (Proc) throws -> Result
) throws -> Result {
    try withTemporaryFolder { folder in
        for (path, text) in files {
            var parent = folder
            for name in path.split(separator: "/").dropLast() {
                parent += "/\(name)"
                if mkdir(parent, 0o700) != 0 && errno != EEXIST { throw Errno.last }
            }
            try makeFile("\(folder)/\(path)", text)
        }
        return try body(Proc(root: folder))
    }
}
