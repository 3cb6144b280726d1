// SPDX-License-Identifier: Apache-2.0
// Conflicts for the tests to report.

import Glibc
import TupleguardABI
import TupleguardLinux

@testable import TupleguardKernel

private func makeProcess(_ name: String, pid: UInt32, uid: UInt32, cgroup: UInt64) -> tg_process {
    var process = tg_process()
    process.pid = pid
    process.uid = uid
    process.cgroup = cgroup
    withUnsafeMutableBytes(of: &process.comm) { $0.copyBytes(from: Array(name.utf8).prefix(16)) }
    return process
}

/// The id of no cgroup: kernfs numbers its nodes from one upwards.
let missingCgroup: UInt64 = .max - 1

/// 192.0.2.1:40000 -> 198.51.100.7:53, refused to `command`, held by server(815).
func makeEvent(
    command: String = "client", reason: Reason = .held, allowed: Bool = false,
    attachment: UInt64 = missingCgroup, isHolderKnown: Bool = true, isClaimantKnown: Bool = true,
    monotonicTime: UInt64 = KernelClock.monotonic
) -> ConflictEvent {
    var event = tg_event()
    event.time_ns = monotonicTime
    event.attachment = attachment
    event.reason = reason.rawValue
    event.allowed = allowed ? 1 : 0
    event.tuple.netns = 3
    event.tuple.local_port = 40_000
    event.tuple.remote_port = 53
    event.tuple.local = (0, 0, UInt32(0xffff).bigEndian, UInt32(0xc000_0201).bigEndian)
    event.tuple.remote = (0, 0, UInt32(0xffff).bigEndian, UInt32(0xc633_6407).bigEndian)
    if isClaimantKnown {
        event.claimant = makeProcess(command, pid: 4711, uid: 1000, cgroup: missingCgroup)
    }
    if isHolderKnown {
        event.holder = makeProcess("server", pid: 815, uid: 0, cgroup: 0)
    }
    return ConflictEvent(event)!
}
