// SPDX-License-Identifier: Apache-2.0
// Addresses, ports and ranges of them as people write them.

import Connectx
import TupleguardAgentClient
import TupleguardLinux
import TupleguardSockets

/// Whatever is read as an endpoint, a tuple, an address or a place for metrics is read the same
/// from what it is written as.
@Sendable func acceptsEndpoints(_ input: UnsafeRawBufferPointer) throws -> Bool {
    let text = text(input)
    let all = [
        try staysTheSame(Connectx.IPAddress(text)), try staysTheSame(Connectx.Endpoint(text)),
        try staysTheSame(Connectx.FourTuple(text)),
    ]
    if let address = MetricsAddress(text) {
        try require(
            MetricsAddress(address.description) == address, "\(address) is read as another place")
    }
    let source = Connectx.Source(text)
    let destinations = Connectx.Destinations(text)
    return all.contains(true) || source != nil || destinations != nil
}

private func staysTheSame<Value: LosslessStringConvertible & Equatable>(
    _ value: Value?
) throws -> Bool {
    guard let value else { return false }
    try require(Value(value.description) == value, "\(value) is read as another \(Value.self)")
    return true
}
