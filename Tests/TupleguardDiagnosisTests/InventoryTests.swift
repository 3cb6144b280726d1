// SPDX-License-Identifier: Apache-2.0
// What is read from /proc, in all the forms that it has.

import Testing
import TupleguardLinux
import TupleguardSockets

@testable import TupleguardHostSurvey

@Suite struct InventoryTests {
    @Test func portBitsTellOnceFromAgain() {
        var bits = PortBits()
        for port: UInt16 in [0, 63, 64, 65_535, 64] { bits.insert(port) }
        #expect(bits.count == 4)
        #expect(bits.sharedCount == 1)
        #expect(bits.isShared(64) && !bits.isShared(63))
        #expect(bits.contains(65_535) && !bits.contains(1))
        #expect(bits.oddCount(from: 32_768) == 2)
        #expect(bits.oddCount(from: 32_769) == 2)
        var other = PortBits()
        other.insert(1)
        other.insert(0)
        #expect(bits.count(with: other) == 5)
    }

    @Test func socketLinksAreRead() {
        #expect(socketInode("socket:[4711]".utf8) == 4711)
        #expect(socketInode("socket:[4294967295]".utf8) == .max)
        for other in [
            "socket:[4294967296]", "socket:[", "socket:[12", "socket:[1x]", "pipe:[4]", "/dev/null",
            "",
        ] {
            #expect(socketInode(other.utf8) == nil, "\(other)")
        }
    }

    @Test func limitsAreRead() throws {
        let text = """
            Limit                     Soft Limit           Hard Limit           Units
            Max processes             96365                96365                processes
            Max open files            1024                 524288               files
            """
        let limits = try #require(DescriptorUse.parse(text))
        #expect(limits == (1024, 524_288))
        let unlimited = try #require(
            DescriptorUse.parse("Max open files  unlimited  unlimited  files"))
        #expect(unlimited == (.max, .max))
        #expect(DescriptorUse.parse("Max open files") == nil)
        #expect(HostFiles("4084\t0\t2466183\n") == HostFiles(open: 4084, limit: 2_466_183))
        #expect(HostFiles("4084") == nil)
    }
}
