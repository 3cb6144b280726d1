// SPDX-License-Identifier: Apache-2.0
// A folder for the time of one test.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// Calls `body` with the path of a fresh folder, and removes it with everything in it.
package func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    var template = Array("/tmp/tupleguard-test-XXXXXX".utf8CString)
    guard let folder = mkdtemp(&template).map({ String(cString: $0) }) else { throw Errno.last }
    defer { remove(folder) }
    return try body(folder)
}

private func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in names(in: path) { remove("\(path)/\(name)") }
    rmdir(path)
}

/// A file with this text.
package func makeFile(_ path: String, _ text: String = "") throws {
    let raw = try Errno.check { open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600) }
    let file = OwnedDescriptor(taking: raw)
    try Errno.check { write(file.raw, text, text.utf8.count) }
}
