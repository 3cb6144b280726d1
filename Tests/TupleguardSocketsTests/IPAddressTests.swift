// SPDX-License-Identifier: Apache-2.0
// Addresses: what is taken for one, how it is printed, and the words it is made of.

import Testing

@testable import TupleguardSockets

struct IPAddressTests {
    @Test(
        "An IPv4 address is printed as it was written",
        arguments: ["0.0.0.0", "127.0.0.1", "192.0.2.1", "255.255.255.255", "1.2.3.4"])
    func v4RoundTrip(text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == text)
        #expect(address.isIPv4)
    }

    @Test(
        "An IPv6 address is printed as RFC 5952 says",
        arguments: [
            ("::", "::"),
            ("::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            // Section 4.1: no leading zeros.
            ("2001:0db8::0001", "2001:db8::1"),
            // 4.2.1: shorten as much as possible.
            ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
            // 4.2.2: not one group alone.
            ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            // 4.2.3: the longest run, and of equal ones the first.
            ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            // 4.3: lower case.
            ("2001:DB8::ABCD:EF01", "2001:db8::abcd:ef01"),
            ("fe80::", "fe80::"),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
            ),
        ])
    func v6Canonical(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(canonical) == address)
        #expect(!address.isIPv4)
    }

    @Test("A v4-mapped address and its IPv4 form are one address, printed dotted")
    func mapped() throws {
        let plain = try #require(IPAddress("192.0.2.1"))
        for text in [
            "::ffff:192.0.2.1", "::ffff:c000:201", "::FFFF:C000:0201", "0:0:0:0:0:ffff:c000:201",
            "[::ffff:192.0.2.1]",
        ] {
            let mapped = try #require(IPAddress(text), "\(text)")
            #expect(mapped == plain)
            #expect(mapped.hashValue == plain.hashValue)
            #expect(mapped.isIPv4)
            #expect(mapped.description == "192.0.2.1")
        }
    }

    @Test("What only resembles a v4-mapped address is none")
    func notMapped() throws {
        for text in [
            "::fffe:c000:201", "1::ffff:c000:201", "::ffff:0:c000:201", "::1:ffff:c000:201",
        ] {
            let address = try #require(IPAddress(text), "\(text)")
            #expect(!address.isIPv4, "\(text)")
        }
    }

    @Test("Brackets are for IPv6 only, and in pairs")
    func brackets() {
        #expect(IPAddress("[2001:db8::1]")?.description == "2001:db8::1")
        #expect(IPAddress("[::]")?.isUnspecified == true)
        for text in [
            "[192.0.2.1]", "[::1", "::1]", "[[::1]]", "[]", "[", "]", "[:]", "][", "[ ::1]",
        ] {
            #expect(IPAddress(text) == nil, "\(text)")
        }
    }

    @Test(
        "Anything else is no address",
        arguments: [
            "", " ", "localhost", "example.com", "*", ":", ":::", "::1::", "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9", "12345::", "g::", "2001:db8::1%eth0", "2001:db8::/32",
            // inet_aton(3) would take these; nobody means them.
            "127.1", "1", "0x7f.0.0.1", "192.0.2.1.", ".192.0.2.1", "192.0.2", "192.0.2.256",
            "192.0.2.-1", "192.0.2.1/24", "192.0.2.1:53", "192.0.2.0001", "192..2.1",
            "::ffff:192.0.2", "::ffff:192.0.2.256", "192.0.2.1::",
            // White space on either side, or within.
            " 192.0.2.1", "192.0.2.1 ", "192.0.2.1\n", "\t::1", "::1\n", "192. 0.2.1", ":: 1",
            // Digits that are not ASCII.
            "١٩٢.0.2.1", "１.2.3.4", "192\u{3002}0.2.1",
        ])
    func garbage(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test("Overlong text is no address")
    func overlong() {
        #expect(IPAddress(String(repeating: "1", count: 100_000)) == nil)
        #expect(IPAddress(String(repeating: "0", count: 100_000) + "1.2.3.4") == nil)
        #expect(IPAddress(String(repeating: ":", count: 100_000)) == nil)
        #expect(IPAddress("2001:db8::1" + String(repeating: "0", count: 100_000)) == nil)
    }

    @Test("A NUL does not end an address early")
    func nul() {
        #expect(IPAddress("192.0.2.1\0") == nil)
        #expect(IPAddress("192.0.2.1\0.example.com") == nil)
        #expect(IPAddress("::1\0junk") == nil)
    }

    @Test("A part of a longer text is parsed where it is")
    func substring() {
        let text = "from 192.0.2.1 to ::1"
        #expect(IPAddress(text.dropFirst(5).prefix(9)) == IPAddress("192.0.2.1"))
        #expect(IPAddress(text.suffix(3)) == IPAddress("::1"))
    }

    @Test("The four words are in network order, whatever the machine's own")
    func networkWords() throws {
        let v4 = IPAddress(v4: 192, 0, 2, 1)
        #expect(bytes(of: v4) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1])
        let v6 = try #require(IPAddress("2001:db8:1:2:3:4:5:6"))
        #expect(bytes(of: v6) == [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6])
        for address in [v4, v6, .unspecified] {
            #expect(IPAddress(networkWords: address.networkWords) == address)
        }
    }

    private func bytes(of address: IPAddress) -> [UInt8] {
        let words = address.networkWords
        return withUnsafeBytes(of: words) { Array($0) }
    }

    @Test("Four bytes make the same address as its text")
    func fromBytes() {
        #expect(IPAddress(v4: 10, 20, 30, 40) == IPAddress("10.20.30.40"))
        #expect(IPAddress(v4: 255, 255, 255, 255).description == "255.255.255.255")
    }

    @Test("Unspecified is all zero, which 0.0.0.0 is not")
    func unspecified() throws {
        #expect(IPAddress.unspecified.isUnspecified)
        #expect(IPAddress("::") == .unspecified)
        #expect(!IPAddress.unspecified.isIPv4)
        let any = try #require(IPAddress("0.0.0.0"))
        #expect(!any.isUnspecified)
        #expect(any.isIPv4)
    }

    @Test("Every address is what its own text says")
    func manyRoundTrips() {
        var numbers = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            // Runs of zeros are where printing goes wrong: make many.
            let mask = { UInt64.random(in: 0...(.max), using: &numbers) | 0x0000_ffff_0000_0000 }
            let address = IPAddress(
                high: Bool.random() ? 0 : .random(in: 0...(.max)) & mask(),
                low: .random(in: 0...(.max)) & (Bool.random() ? 0xffff_0000_0000_ffff : mask()))
            #expect(IPAddress(address.description) == address, "\(address)")
        }
    }
}
