// SPDX-License-Identifier: Apache-2.0
// What tells one connection of a protocol from every other.

/// The two ends of a connected socket.
public struct FourTuple: Hashable, Sendable, CustomStringConvertible {
    /// This end.
    public var local: Endpoint
    /// The other end.
    public var remote: Endpoint

    /// A connection by its two ends.
    public init(local: Endpoint, remote: Endpoint) {
        self.local = local
        self.remote = remote
    }

    /// "192.0.2.1:40000 -> 198.51.100.7:53"
    public var description: String { "\(local) -> \(remote)" }
}
