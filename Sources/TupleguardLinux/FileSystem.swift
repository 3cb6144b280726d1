// SPDX-License-Identifier: Apache-2.0
// Small files and folders, read whole.

import Glibc
import TupleguardSockets

/// The names in a folder, without "." and ".."; empty when it cannot be read.
package func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

/// The whole of a small file, such as those of /proc; nil when it cannot be read.
package func contents(of path: String) -> String? {
    guard let file = try? OwnedDescriptor(path: path, flags: O_RDONLY) else { return nil }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        guard let count = try? Errno.check({ read(file.raw, &buffer, buffer.count) }) else {
            return nil
        }
        if count == 0 { break }
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}
