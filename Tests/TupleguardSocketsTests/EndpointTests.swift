// SPDX-License-Identifier: Apache-2.0
// Endpoints and 4-tuples: parsing, printing, telling them apart.

import Testing

@testable import TupleguardSockets

struct EndpointTests {
    @Test(
        "An endpoint is printed as it was written",
        arguments: [
            "192.0.2.1:53", "0.0.0.0:0", "127.0.0.1:65535", "[2001:db8::1]:53", "[::1]:1",
        ])
    func roundTrip(text: String) throws {
        #expect(try #require(Endpoint(text)).description == text)
    }

    @Test("Address and port are what the text says")
    func parts() throws {
        let v4 = try #require(Endpoint("192.0.2.1:53"))
        #expect(v4.address == IPAddress("192.0.2.1"))
        #expect(v4.port == 53)
        let v6 = try #require(Endpoint("[2001:db8::1]:5353"))
        #expect(v6.address == IPAddress("2001:db8::1"))
        #expect(v6.port == 5353)
        let mapped = try #require(Endpoint("[::ffff:192.0.2.1]:53"))
        #expect(mapped == v4)
    }

    @Test("An address that is not known is written as a star")
    func unknownAddress() {
        #expect(Endpoint(.unspecified, 53).description == "*:53")
        #expect(Endpoint("*:53") == Endpoint(.unspecified, 53))
    }

    @Test(
        "Anything else is no endpoint",
        arguments: [
            "", ":", "53", ":53", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1",
            "192.0.2.1:0x35", "192.0.2.1:53 ", "192.0.2.1: 53", " 192.0.2.1:53", "192.0.2.1:53:",
            "192.0.2.1:dns", "192.0.2.1:99999999999999999999", "[192.0.2.1]:53", "[2001:db8::1]",
            "[2001:db8::1]:", "[2001:db8::1]:65536", "[2001:db8::1]53", "[]:53",
            "[2001:db8::1]]:53",
            // Without brackets nobody knows where the address ends.
            "2001:db8::1:53", "::1", ":::53",
            "example.com:53", "*", "*:", "[*]:53", "**:53",
        ])
    func garbage(text: String) {
        #expect(Endpoint(text) == nil)
    }

    @Test("A port has digits only")
    func signedPort() {
        #expect(Endpoint("192.0.2.1:+53") == nil)
        #expect(Endpoint("192.0.2.1:-0") == nil)
        #expect(Endpoint("[2001:db8::1]:+53") == nil)
    }

    @Test("A v4-mapped address needs its brackets like any other IPv6 address")
    func mappedWithoutBrackets() {
        #expect(Endpoint("::ffff:192.0.2.1:53") == nil)
        // An IPv6 address in its own right.
        #expect(Endpoint("::ffff:102:304:53") == nil)
    }

    @Test("A NUL does not end an endpoint's address early")
    func nul() {
        #expect(Endpoint("192.0.2.1\0:53") == nil)
    }

    @Test("Endpoints are equal when address and port are")
    func equality() throws {
        let endpoint = try #require(Endpoint("192.0.2.1:53"))
        #expect(endpoint == Endpoint(IPAddress(v4: 192, 0, 2, 1), 53))
        #expect(endpoint != Endpoint(IPAddress(v4: 192, 0, 2, 1), 54))
        #expect(endpoint != Endpoint(IPAddress(v4: 192, 0, 2, 2), 53))
    }
}

struct FourTupleTests {
    private let a = Endpoint(IPAddress(v4: 192, 0, 2, 1), 40_000)
    private let b = Endpoint(IPAddress(v4: 198, 51, 100, 7), 53)

    @Test("Printed from the local to the remote end")
    func printing() throws {
        #expect(FourTuple(local: a, remote: b).description == "192.0.2.1:40000 -> 198.51.100.7:53")
        let v6 = FourTuple(
            local: Endpoint(.unspecified, 40_000),
            remote: try #require(Endpoint("[2001:db8::7]:53")))
        #expect(v6.description == "*:40000 -> [2001:db8::7]:53")
    }

    @Test("The direction matters, and so does each of the four parts")
    func equality() {
        let tuple = FourTuple(local: a, remote: b)
        #expect(tuple == FourTuple(local: a, remote: b))
        #expect(tuple != FourTuple(local: b, remote: a))
        var others: Set = [tuple]
        for change in 0..<4 {
            var other = tuple
            switch change {
            case 0: other.local.port += 1
            case 1: other.remote.port += 1
            case 2: other.local.address = .unspecified
            default: other.remote.address = .unspecified
            }
            others.insert(other)
        }
        #expect(others.count == 5)
    }
}
