// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import tupleguard

@Suite struct ConnectArgumentTests {
    @Test func argumentsInTheirOrder() throws {
        let one = try parse(Connect.self, "connect udp 127.0.0.1:7")
        #expect(one.kind == .udp)
        #expect(one.endpoints == ["127.0.0.1:7"])
        let two = try parse(Connect.self, "connect tcp *:4000 [::1]:7 --show --timeout 0.5")
        #expect(two.endpoints == ["*:4000", "[::1]:7"])
        #expect(two.timeout == 0.5)
    }

    @Test func argumentsThatMakeNoSense() {
        expectRefusal(["connect", "udp"], "endpoint")
        expectRefusal(["connect", "sctp", "127.0.0.1:7"], "sctp")
        expectRefusal(["connect", "udp", "1.1.1.1", "2.2.2.2:7", "3"], "SOURCE")
        expectRefusal(["connect", "udp", "127.0.0.1:70000", "127.0.0.1:7"], "*:PORT")
        expectRefusal(["connect", "udp", "127.0.0.1:7", "--count", "0"], "--count 0")
        expectRefusal(["connect", "udp", "127.0.0.1:7", "--hold", "1"], "--count")
        expectRefusal(["connect", "udp", "127.0.0.1:7", "--retry"], "tcp")
        expectRefusal(
            ["connect", "udp", "127.0.0.1:7", "--interface", "no-such"], "--interface no-such")
        expectRefusal(["connect", "tcp", "127.0.0.1:7", "--timeout", "0"], "--timeout 0")
    }
}
