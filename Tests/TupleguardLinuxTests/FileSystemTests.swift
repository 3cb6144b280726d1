// SPDX-License-Identifier: Apache-2.0
// The reading of small files and folders.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

struct FileSystemTests {
    private func write(_ bytes: [UInt8], to path: String) throws {
        let raw = try Errno.check { open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600) }
        let file = OwnedDescriptor(taking: raw)
        #expect(try Errno.check { Glibc.write(file.raw, bytes, bytes.count) } == bytes.count)
    }

    @Test("The names of a folder, without itself and its parent")
    func listing() throws {
        try withTemporaryFolder { folder in
            #expect(names(in: folder) == [])
            let expected = [
                "a", ".hidden", "with space", "ünïcode", String(repeating: "x", count: 255),
            ]
            for name in expected { try write([], to: "\(folder)/\(name)") }
            #expect(names(in: folder).sorted() == expected.sorted())
        }
    }

    @Test("A folder that cannot be read has no names")
    func noFolder() {
        #expect(names(in: "/proc/that-is-not-there") == [])
        #expect(names(in: "/dev/null") == [])
    }

    @Test("A file is read whole, whatever its size", arguments: [0, 1, 4095, 4096, 4097, 20_000])
    func reading(size: Int) throws {
        try withTemporaryFolder { folder in
            let bytes = (0..<size).map { UInt8(ascii: "a") + UInt8($0 % 26) }
            try write(bytes, to: "\(folder)/file")
            #expect(contents(of: "\(folder)/file").map { Array($0.utf8) } == bytes)
        }
    }

    @Test("A file that cannot be read has no contents")
    func noFile() {
        #expect(contents(of: "/proc/that-is-not-there") == nil)
        #expect(contents(of: "/proc") == nil)
    }
}
