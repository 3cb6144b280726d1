// SPDX-License-Identifier: Apache-2.0
// Notices for the tests to send.
import ConnectxCore
import TupleguardRecords
import TupleguardSockets

@testable import TupleguardAgent

/// 192.0.2.1:`port` -> 198.51.100.7:53, UDP.
func makeNotice(
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

func datagram(_ notice: Notice) -> [UInt8] {
    withUnsafeBytes(of: notice.bytes) { Array($0) }
}

/// A process of which nothing but the credentials is known.
func makeSender(
    pid: Int32 = 4711, uid: UInt32 = 1000, command: String? = nil, cgroup: UInt64 = 0
) -> ProcessIdentity {
    ProcessIdentity(pid: pid, uid: uid, command: command, cgroupId: cgroup)
}
