// SPDX-License-Identifier: Apache-2.0
// What tells one connection of a protocol from every other.

extension Connectx {
    /// The two ends of a connected socket.
    public struct FourTuple: Hashable, Comparable, Sendable, LosslessStringConvertible {
        /// This end.
        public var local: Endpoint
        /// The other end.
        public var remote: Endpoint

        /// A connection by its two ends.
        public init(local: Endpoint, remote: Endpoint) {
            self.local = local
            self.remote = remote
        }

        /// Parses what `description` says; nil for anything else.
        public init?(_ text: some StringProtocol) {
            let parts = text.split(separator: " ", omittingEmptySubsequences: false)
            guard parts.count == 3, parts[1] == "->", let local = Endpoint(parts[0]),
                let remote = Endpoint(parts[2])
            else { return nil }
            self.init(local: local, remote: remote)
        }

        /// "192.0.2.1:40000 -> 198.51.100.7:53"
        public var description: String { "\(local) -> \(remote)" }

        /// By the local end, then by the remote one.
        public static func < (one: Self, other: Self) -> Bool {
            (one.local, one.remote) < (other.local, other.remote)
        }
    }
}

package typealias FourTuple = Connectx.FourTuple
