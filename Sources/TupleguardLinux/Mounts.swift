// SPDX-License-Identifier: Apache-2.0
// Where file systems are mounted.

/// The mount points of one kind of file system, as /proc/PID/mounts lists them.
enum Mounts {
    static func points(ofType type: String, in list: String) -> [String] {
        list.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 2 && fields[2] == type ? unescape(fields[1]) : nil
        }
    }

    /// Undoes what is done there to spaces, tabs, newlines and backslashes: \040 and so on
    /// (mangle_path).
    private static func unescape(_ field: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                bytes.append(code)
                rest.removeFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
