// SPDX-License-Identifier: Apache-2.0
// Conflicts for the tests to log.

import TupleguardRecords
import TupleguardSockets

/// The id of no cgroup: kernfs numbers its nodes from one upwards.
let missingCgroup: UInt64 = .max - 1

/// 192.0.2.1:40000 -> 198.51.100.7:53, refused to `command`, held by server(815).
func makeEvent(
    command: String = "client", port: UInt16 = 40_000, uid: UInt32 = 1000,
    cgroup: UInt64 = missingCgroup, time: Timestamp = .now
) -> GuardEvent {
    GuardEvent(
        time: time, action: .refused, reason: .held,
        tuple: FourTuple(
            local: Endpoint(IPAddress(v4: 192, 0, 2, 1), port),
            remote: Endpoint(IPAddress(v4: 198, 51, 100, 7), 53)),
        networkNamespace: 3, guardedCgroupId: missingCgroup,
        claimant: ProcessIdentity(pid: 4711, uid: uid, command: command, cgroupId: cgroup),
        holder: ProcessIdentity(pid: 815, uid: 0, command: "server", cgroupId: 0))
}

/// A clock that stands until it is moved.
final class SetClock {
    var nanoseconds: UInt64 = 1_000_000_000_000

    func pass(seconds: UInt64) { nanoseconds += seconds * 1_000_000_000 }
    var reading: () -> UInt64 { { self.nanoseconds } }
}
