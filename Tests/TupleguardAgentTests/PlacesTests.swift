// SPDX-License-Identifier: Apache-2.0
// How many connections the agent's socket has room for.

import Testing

@testable import TupleguardAgent

struct PlacesTests {
    @Test("As many as there are, and one again for each that is given back")
    func limit() {
        let places = Places(2)
        #expect(places.take())
        #expect(places.take())
        #expect(!places.take())
        #expect(!places.take())
        places.giveBack()
        #expect(places.take())
        #expect(!places.take())
    }
}
