// SPDX-License-Identifier: Apache-2.0
// Names of files as text, and back: to the kernel they are bytes, and need not be UTF-8.

/// The text for the bytes of a name: those that are not UTF-8 are written as \xe9, as systemd
/// writes them.
package func fileName(_ bytes: some Collection<UInt8>) -> String {
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    var text = ""
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
        // The longest beginning that is UTF-8 and one character: a byte that is no part of one.
        let character = (1...4).lazy.filter { $0 <= rest.count }.first {
            String(validating: rest.prefix($0), as: UTF8.self) != nil
        }
        if let character {
            text += String(decoding: rest.prefix(character), as: UTF8.self)
            rest = rest.dropFirst(character)
        } else {
            text += "\\x" + String(rest.removeFirst(), radix: 16)
        }
    }
    return text
}

/// The bytes for a name as `fileName` writes it. A file whose name has \xe9 in it as it stands is
/// called the same: whoever means either looks for that one first.
package func fileNameBytes(_ name: String) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = Array(name.utf8)[...]
    while let byte = rest.popFirst() {
        let digits = rest.dropFirst().prefix(2)
        if byte == UInt8(ascii: "\\"), rest.first == UInt8(ascii: "x"), digits.count == 2,
            let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 16), code >= 0x80
        {
            bytes.append(code)
            rest = rest.dropFirst(3)
        } else {
            bytes.append(byte)
        }
    }
    return bytes
}
