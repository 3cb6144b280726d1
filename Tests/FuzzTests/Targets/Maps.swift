// SPDX-License-Identifier: Apache-2.0
// Values of BPF maps and records of the ring buffer: an older guard, or another program that may
// write to them, has put there what it liked.

import TupleguardABI
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

@testable import TupleguardKernel

/// Any bytes where each struct is make something that can be shown, sent and read again.
@Sendable func acceptsMapValue(_ input: UnsafeRawBufferPointer) throws -> Bool {
    // What makes an event is looked at as nothing else: that takes long enough.
    if let event = GuardEvent(value(input, tg_event())) {
        try checkEvent(event)
        return GuardEvent(bytes: input) != nil
    }
    let tuple = FourTuple(value(input, tg_tuple()))
    try require(FourTuple(tuple.description) == tuple, "\(tuple) is read as another tuple")
    _ = ProcessIdentity(value(input, tg_process()))?.description
    let claim = Claim(value(input, tg_tuple()), value(input, tg_claim()))
    try requireFit(claim.command)
    _ = (claim.since.clock, claim.since.age)
    let policy = Policy(fromPrograms: value(input, tg_policy()))
    _ = policy.graceNanoseconds
    let filling = value(input, tg_usage()).filling
    try require(filling >= 0, "a table that is less than empty")
    _ = percent(filling)
    let counters = value(input, tg_counters())
    let sum = Counters(perCPU: [counters, counters]) + Counters(perCPU: [counters])
    _ = (sum.refused, sum.byName)
    return false
}

private func checkEvent(_ event: GuardEvent) throws {
    try requireFit(event.line)
    try requireFit(event.subject)
    _ = (event.time.clock, event.time.age)
    let json = encodeJSON(event)
    try requireFit(json)
    let again: GuardEvent? = decodeJSON(json)
    try require(again?.line == event.line, "another event is read: \(json)")
}

private func requireFit(_ text: String) throws {
    try require(!text.unicodeScalars.contains(where: \.isUnfitToBeShown), "unfit to be shown")
}

/// A struct that begins with these bytes, and has zeroes where they end.
private func value<Value: BitwiseCopyable>(
    _ input: UnsafeRawBufferPointer, _ empty: Value
) -> Value {
    var value = empty
    withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: input.prefix($0.count)) }
    return value
}
