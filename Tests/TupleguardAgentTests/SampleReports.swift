// SPDX-License-Identifier: Apache-2.0
// Reports for the tests to send.
import ConnectxCore
import TupleguardSockets

@testable import TupleguardAgent

/// 192.0.2.1:`port` -> 198.51.100.7:53, UDP.
func makeReport(
    _ kind: Notice.Kind = .conflict, port: UInt16 = 40_000, remotePort: UInt16 = 53,
    count: UInt32 = 1
) -> Notice {
    Notice(
        kind: kind, transport: .udp,
        tuple: FourTuple(
            local: Endpoint(IPAddress(v4: 192, 0, 2, 1), port),
            remote: Endpoint(IPAddress(v4: 198, 51, 100, 7), remotePort)),
        count: count)
}

func datagram(_ report: Notice) -> [UInt8] {
    withUnsafeBytes(of: report.bytes) { Array($0) }
}

/// A process of which nothing but the credentials is known.
func makeProcess(pid: UInt32 = 4711, uid: UInt32 = 1000, command: String? = nil) -> SenderProcess {
    SenderProcess(Sender(pid: pid, uid: uid), command: command)
}
