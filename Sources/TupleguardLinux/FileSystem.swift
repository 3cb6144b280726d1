// SPDX-License-Identifier: Apache-2.0
// Small files and folders, read whole.

import Glibc
import TupleguardSockets

/// The names in a folder, without "." and ".."; empty when it cannot be read.
///
/// - Parameter onlyFolders: where the file system tells types (kernfs does; cgroups are folders).
package func names(in folder: String, onlyFolders: Bool = false) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        if onlyFolders && Int(entry.pointee.d_type) != DT_DIR { continue }
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            fileName(bytes.prefix { $0 != 0 })
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

/// The whole of a small file, such as those of /proc; nil when it cannot be read.
package func contents(of path: String) -> String? {
    bytes(of: path).map { String(decoding: $0, as: UTF8.self) }
}

/// The same as it is.
package func bytes(of path: String) -> [UInt8]? {
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
    return bytes
}

/// Where an open file is, as its mount namespace has it; nil when it has been removed.
func path(ofDescriptor descriptor: Int32) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let length = readlink("/proc/self/fd/\(descriptor)", &buffer, buffer.count)
    guard length > 0 else { return nil }
    let path = fileName(buffer[..<length])
    return path.hasSuffix(" (deleted)") ? nil : path
}
