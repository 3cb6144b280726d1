// SPDX-License-Identifier: Apache-2.0
// Records as the programs would write them, for the tests to decode.

import Glibc
import TupleguardABI
import TupleguardLinux
import TupleguardRecords

@testable import TupleguardKernel

/// `name` as a `comm`; what is left of the sixteen bytes is zero.
func makeProcess(
    _ name: [UInt8] = Array("client".utf8), pid: UInt32 = 4711, uid: UInt32 = 1000,
    cgroup: UInt64 = 0
) -> tg_process {
    var process = tg_process()
    process.pid = pid
    process.uid = uid
    process.cgroup = cgroup
    withUnsafeMutableBytes(of: &process.comm) { $0.copyBytes(from: name.prefix(16)) }
    return process
}

/// 192.0.2.1:40000 -> 198.51.100.7:53 in network namespace 1.
func makeTuple() -> tg_tuple {
    var tuple = tg_tuple()
    tuple.netns = 1
    tuple.local_port = 40_000
    tuple.remote_port = 53
    tuple.local = (0, 0, UInt32(0xffff).bigEndian, UInt32(0xc000_0201).bigEndian)
    tuple.remote = (0, 0, UInt32(0xffff).bigEndian, UInt32(0xc633_6407).bigEndian)
    return tuple
}

/// A refusal, a moment ago.
func makeEvent(reason: UInt32 = TG_REASON_HELD.rawValue, allowed: UInt16 = 0) -> tg_event {
    var event = tg_event()
    event.time_ns = KernelClock.monotonic
    event.attachment = 77
    event.reason = reason
    event.allowed = allowed
    event.protocol = UInt16(IPPROTO_UDP)
    event.tuple = makeTuple()
    event.claimant = makeProcess()
    event.claimant_cookie = 12
    event.holder = makeProcess(Array("server".utf8), pid: 815, uid: 0)
    event.holder_cookie = 11
    return event
}

func bytes<Value: BitwiseCopyable>(of value: Value) -> [UInt8] {
    withUnsafeBytes(of: value) { Array($0) }
}

func decode(_ bytes: [UInt8]) -> GuardEvent? {
    bytes.withUnsafeBytes { GuardEvent(bytes: $0) }
}
