// SPDX-License-Identifier: Apache-2.0
// Names that are not UTF-8, as text and back.

import Testing

@testable import TupleguardLinux

struct FileNameTests {
    @Test("What is UTF-8 stays; other bytes are written as systemd writes them")
    func text() {
        #expect(fileName(Array("a.slice/b c".utf8)) == "a.slice/b c")
        #expect(fileName(Array("caf\u{e9} 日本".utf8)) == "caf\u{e9} 日本")
        #expect(fileName([0x63, 0xe9, 0x2e]) == "c\\xe9.")
        #expect(fileName([0xff, 0xc3, 0xa9, 0xc3]) == "\\xffé\\xc3")
        #expect(fileName([]) == "")
    }

    @Test("And back, whatever the bytes")
    func bytes() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<1000 {
            let bytes = (0..<12).map { _ in UInt8.random(in: 0x80...0xff, using: &generator) }
            #expect(fileNameBytes(fileName(bytes)) == bytes)
        }
        // Of ASCII none is written so: systemd's own names have \x2d in them.
        #expect(fileNameBytes("dev-a\\x2db.swap") == Array("dev-a\\x2db.swap".utf8))
        for text in ["\\", "\\x", "\\xe", "\\xzz", "x\\"] {
            #expect(fileNameBytes(text) == Array(text.utf8))
        }
    }
}
