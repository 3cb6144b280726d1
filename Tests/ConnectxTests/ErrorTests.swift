// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import TupleguardSockets

@testable import Connectx
@testable import ConnectxCore

@Suite struct ErrorTests {
    @Test func errorsSayWhatWhyAndWhatToDo() throws {
        let local = try #require(Endpoint("127.0.0.1:4000"))
        let remote = try #require(Endpoint("[2001:db8::1]:53"))
        let named = ConnectError(
            .conflict, EADDRINUSE, FourTuple(local: local, remote: remote))
        #expect(
            named.description.hasPrefix(
                "cannot connect 127.0.0.1:4000 -> [2001:db8::1]:53: Address already in use (EADDRINUSE): another socket has this source"
            ))
        let chosen = ConnectError(
            .exhausted, EAGAIN,
            FourTuple(local: Endpoint(local.address, 0), remote: remote))
        #expect(chosen.description.hasPrefix("cannot connect 127.0.0.1 -> [2001:db8::1]:53: "))
        #expect(chosen.description.contains("ip_local_port_range"))
        let open = ConnectError(
            .connectFailed, ECONNREFUSED,
            FourTuple(local: Endpoint(.unspecified, 0), remote: remote))
        #expect(
            open.description
                == "cannot connect [2001:db8::1]:53: Connection refused (ECONNREFUSED): nothing listens there"
        )
    }

    @Test func aHostsNameIsFitForATerminal() throws {
        let tuple = FourTuple(
            local: Endpoint(.unspecified, 0), remote: Endpoint(.unspecified, 53))
        var error = ConnectError(.unknownHost, ENOENT, tuple)
        error.host = "a b\u{1b}[31m\u{7f}\u{e9}~"
        #expect(error.description.hasPrefix("cannot connect a?b?[31m??~:53: "))
    }

    @Test func namesAreDistinctAndStable() {
        let reasons = ConnectError.Reason.allCases.map(\.name)
        #expect(Set(reasons).count == reasons.count)
        #expect(
            Connectx.Technique.allCases.map(\.name) == [
                "plain", "bind_address_no_port", "reuse_address", "bind_retry", "fast_open", "lock",
                "guarded", "exclusive", "own_port",
            ])
    }
}
