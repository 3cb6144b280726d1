// SPDX-License-Identifier: Apache-2.0
// What was typed, as what it asks for.

/// A key that means something here.
enum Key: Equatable {
    case character(Character)
    case enter, escape, backspace, up, down

    /// Decodes what was read at once; what it does not know it leaves out.
    static func decode(_ bytes: [UInt8]) -> [Key] {
        var keys: [Key] = []
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            switch byte {
            case 0x1B where rest.first == UInt8(ascii: "[") || rest.first == UInt8(ascii: "O"):
                rest.removeFirst()
                // Parameters, then the byte that names the key (ECMA-48, 5.4).
                while let next = rest.first, (0x20..<0x40).contains(next) { rest.removeFirst() }
                switch rest.popFirst() {
                case UInt8(ascii: "A"): keys.append(.up)
                case UInt8(ascii: "B"): keys.append(.down)
                default: break
                }
            case 0x1B: keys.append(.escape)
            case 0x0A, 0x0D: keys.append(.enter)
            case 0x08, 0x7F: keys.append(.backspace)
            case 0x20..<0x7F: keys.append(.character(Character(Unicode.Scalar(byte))))
            default: break
            }
        }
        return keys
    }
}
