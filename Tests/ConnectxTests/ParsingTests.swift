// SPDX-License-Identifier: Apache-2.0

import Connectx
import Foundation
import Testing
import TupleguardSockets

@Suite struct ParsingTests {
    @Test func scopes() throws {
        let loopback = try #require(interfaceIndex("lo"))
        let scoped = try #require(Endpoint("[fe80::1%lo]:53"))
        #expect(scoped.address == IPAddress("fe80::1"))
        #expect(scoped.scope == loopback)
        #expect(Endpoint("[fe80::1%\(loopback)]:53") == scoped)
        #expect(scoped != Endpoint("[fe80::1]:53"))
        #expect(scoped.description == "[fe80::1%lo]:53")
        // An interface that is gone is still a number.
        #expect(Endpoint("[fe80::1%4000000]:53")?.description == "[fe80::1%4000000]:53")
    }

    @Test(arguments: [
        "", "53", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "::1:53", "[fe80::1%]:53",
        "[fe80::1%no-such-interface]:53", "[fe80::1]%lo:53", "fe80::1%lo:53", "[fe80::1%0]:53",
        "192.0.2.1%lo:53", "[192.0.2.1%lo]:53", "[fe80::1%lo\0]:53", "[fe80::1%lo", "%", "[%]:1",
    ])
    func noEndpoint(_ text: String) {
        #expect(Endpoint(text) == nil)
    }

    @Test(arguments: [
        "192.0.2.1:53", "[2001:db8::1]:65535", "[fe80::1%lo]:53", "[::]:0", "0.0.0.0:1",
        "[::ffff:192.0.2.1]:53",
    ])
    func textIsLossless(_ text: String) throws {
        let endpoint = try #require(Endpoint(text))
        #expect(Endpoint(endpoint.description) == endpoint)
        #expect(IPAddress(endpoint.address.description) == endpoint.address)
        let tuple = FourTuple(local: Endpoint(.unspecified, 7), remote: endpoint)
        #expect(FourTuple(tuple.description) == tuple)
        let coded = try JSONEncoder().encode([tuple])
        #expect(try JSONDecoder().decode([FourTuple].self, from: coded) == [tuple])
        #expect(String(decoding: coded, as: UTF8.self) == "[\"\(tuple)\"]")
    }

    @Test(arguments: [
        "", "->", "1.2.3.4:5", "1.2.3.4:5 ->", "1.2.3.4:5->1.2.3.4:6", "a -> b",
        "1.2.3.4:5 -> 1.2.3.4:6 -> 1.2.3.4:7", "1.2.3.4:5  -> 1.2.3.4:6",
    ])
    func noTuple(_ text: String) {
        #expect(FourTuple(text) == nil)
    }

    @Test func codedTextThatIsNoEndpointIsRefused() {
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([Endpoint].self, from: Data(#"["nonsense"]"#.utf8))
        }
    }

    @Test func order() throws {
        let texts = [
            "10.0.0.1:9", "10.0.0.2:1", "10.0.0.2:2", "192.0.2.1:1", "[fe80::1]:1",
            "[fe80::1%4000000]:1", "[fe80::2]:1",
        ]
        let all = texts.compactMap { Endpoint($0) }
        #expect(all.shuffled().sorted().map(\.description) == texts)
        let tuples = all.map { FourTuple(local: all[0], remote: $0) }
        #expect(tuples.shuffled().sorted() == tuples)
    }

    @Test func sources() {
        #expect(
            Connectx.Source("192.0.2.1") == Connectx.Source(address: IPAddress(v4: 192, 0, 2, 1)))
        #expect(
            Connectx.Source("192.0.2.1:7")
                == Connectx.Source(address: IPAddress(v4: 192, 0, 2, 1), port: 7))
        #expect(Connectx.Source("*:7") == Connectx.Source(port: 7))
        #expect(Connectx.Source("0.0.0.0:7") == Connectx.Source(port: 7))
        #expect(Connectx.Source("::") == .any)
        #expect(Connectx.Source("[::1]:7") == Connectx.Source(address: IPAddress("::1"), port: 7))
        for text in ["7", "*", "*:x"] { #expect(Connectx.Source(text) == nil) }
    }

    @Test func severalDestinations() throws {
        let list = try #require(Connectx.Destinations("192.0.2.1:53,[2001:db8::1]:54"))
        #expect(list.all.map(\.description) == ["192.0.2.1:53", "[2001:db8::1]:54"])
        let range = try #require(Connectx.Destinations("127.0.0.254-127.0.1.1:80"))
        #expect(
            range.all.map(\.description) == [
                "127.0.0.254:80", "127.0.0.255:80", "127.0.1.0:80", "127.0.1.1:80",
            ])
        let loopback = try Connectx.Destinations.loopback(port: 80).all
        #expect(loopback.count == 254)
        #expect(loopback.last == Endpoint("127.0.0.254:80"))
    }

    @Test(arguments: [
        "", ",", "127.0.0.1:1,", "127.0.0.2-127.0.0.1:80", "0.0.0.0-255.255.255.255:80",
        "::1-[::2]:80", "127.0.0.1-127.0.0.2-127.0.0.3:80",
    ])
    func noDestinations(_ text: String) {
        #expect(Connectx.Destinations(text) == nil)
    }

    @Test func noDestinationIsAnError() {
        #expect(throws: ConnectError.self) { try Connectx.Destinations([]) }
        for count in [Int.min, -1, 0, 255, Int.max] {
            #expect(throws: ConnectError.self) {
                try Connectx.Destinations.loopback(port: 80, count: count)
            }
        }
    }
}
