// SPDX-License-Identifier: Apache-2.0
// Replies of the kernel: their lengths are believed as far as the buffer goes.

import TupleguardConntrack
import TupleguardSocketDiag

@testable import ConnectxCore

/// One reply of SOCK_DIAG, connection tracking or rtnetlink, of any number of messages.
@Sendable func acceptsNetlink(_ input: UnsafeRawBufferPointer) throws -> Bool {
    var messages = NetlinkMessages(input)
    var (count, records) = (0, 0)
    while let message = messages.next() {
        count += 1
        try require(count <= input.count / 16, "more messages than there is room for")
        try requireInside(message.payload, input)
        try walkAttributes(message.payload)
        if SocketRecord(message.payload) != nil { records += 1 }
        if ConntrackRecord(message.payload) != nil { records += 1 }
        if message.preferredSource != nil { records += 1 }
    }
    try require(messages.next() == nil, "a message after the last")
    try walkAttributes(input)
    _ = (SocketRecord(input), ConntrackRecord(input))
    return records > 0
}

private func walkAttributes(_ bytes: UnsafeRawBufferPointer) throws {
    var attributes = NetlinkAttributes(bytes)
    var count = 0
    while let attribute = attributes.next() {
        count += 1
        try require(count <= bytes.count / 4, "more attributes than there is room for")
        try require(attribute.type <= 0x3fff, "an attribute's type with flags in it")
        try requireInside(attribute.value, bytes)
    }
    try require(attributes.next() == nil, "an attribute after the last")
}

/// That `part` lies in `whole`; reads all of it, which AddressSanitizer looks at.
private func requireInside(
    _ part: UnsafeRawBufferPointer, _ whole: UnsafeRawBufferPointer
) throws {
    guard let start = part.baseAddress, let first = whole.baseAddress, !part.isEmpty else { return }
    try require(
        start >= first && start + part.count <= first + whole.count, "bytes beside the reply")
    let sum = part.reduce(0) { $0 &+ Int($1) }
    try require(sum >= 0, "bytes that cannot be read")
}
