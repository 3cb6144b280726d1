// SPDX-License-Identifier: Apache-2.0

import Connectx
import Testing
import TupleguardSockets

@Suite struct ParsingTests {
    @Test func destinations() throws {
        #expect(Destination("192.0.2.1:53") == Destination(try #require(Endpoint("192.0.2.1:53"))))
        let loopback = try #require(interfaceIndex("lo"))
        let scoped = try #require(Destination("[fe80::1%lo]:53"))
        #expect(scoped.endpoint == Endpoint("[fe80::1]:53"))
        #expect(scoped.scope == loopback)
        #expect(Destination("[fe80::1%7]:53")?.scope == 7)
    }

    @Test(arguments: [
        "", "53", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "::1:53", "[fe80::1%]:53",
        "[fe80::1%no-such-interface]:53", "[fe80::1]%lo:53", "fe80::1%lo:53", "[fe80::1%0]:53",
    ])
    func noDestination(_ text: String) {
        #expect(Destination(text) == nil)
    }

    @Test func sources() {
        #expect(Source("192.0.2.1") == Source(address: IPAddress(v4: 192, 0, 2, 1)))
        #expect(Source("192.0.2.1:7") == Source(address: IPAddress(v4: 192, 0, 2, 1), port: 7))
        #expect(Source("*:7") == Source(port: 7))
        #expect(Source("0.0.0.0:7") == Source(port: 7))
        #expect(Source("::") == .any)
        #expect(Source("[::1]:7") == Source(address: IPAddress("::1"), port: 7))
        #expect(Source("7") == nil)
        #expect(Source("*") == nil)
        #expect(Source("*:x") == nil)
    }

    @Test func severalDestinations() throws {
        let list = try #require(Destinations("192.0.2.1:53,[2001:db8::1]:54"))
        #expect(list.all.map(\.endpoint.description) == ["192.0.2.1:53", "[2001:db8::1]:54"])
        let range = try #require(Destinations("127.0.0.254-127.0.1.1:80"))
        #expect(
            range.all.map(\.endpoint.description) == [
                "127.0.0.254:80", "127.0.0.255:80", "127.0.1.0:80", "127.0.1.1:80",
            ])
        #expect(Destinations.loopback(port: 80).all.count == 254)
        #expect(Destinations.loopback(port: 80).all.last?.endpoint == Endpoint("127.0.0.254:80"))
    }

    @Test(arguments: [
        "", ",", "127.0.0.1:1,", "127.0.0.2-127.0.0.1:80", "0.0.0.0-255.255.255.255:80",
        "::1-[::2]:80", "127.0.0.1-127.0.0.2-127.0.0.3:80",
    ])
    func noDestinations(_ text: String) {
        #expect(Destinations(text) == nil)
    }
}
