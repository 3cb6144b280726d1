// SPDX-License-Identifier: Apache-2.0
// Datagrams that anybody may have sent to the agent.

import ConnectxCore

/// A datagram is refused, or it is exactly what the notice that it makes is sent as.
@Sendable func acceptsNotice(_ input: UnsafeRawBufferPointer) throws -> Bool {
    guard let notice = Notice(input) else { return false }
    try require(
        withUnsafeBytes(of: notice.bytes) { $0.elementsEqual(input) }, "another datagram than sent")
    try require(notice.count > 0 && notice.tuple.remote.port != 0, "a notice of nothing")
    try require(
        notice.tuple.local.port != 0 || notice.kind == .exhausted, "a conflict without a port")
    return true
}
