// SPDX-License-Identifier: Apache-2.0
// Several destinations for one service. Each brings a port space of its own.

import CTupleguardLinux
public import ConnectxCore
import Synchronization
public import TupleguardSockets

extension Connectx {
    /// Destinations that serve equally well, taken in turn by whoever connects.
    ///
    /// A source address has one range of ports for each destination: with three destinations three
    /// times as many connections fit. A local service that listens on `0.0.0.0` can be reached at
    /// every address of 127.0.0.0/8 (`loopback(port:count:)`).
    public final class Destinations: Sendable {
        /// In the order in which they were given.
        public let all: [Endpoint]
        private let next = Atomic<Int>(0)

        /// - Throws: `invalidArgument` when there is none.
        public init(_ all: [Endpoint]) throws(ConnectError) {
            guard !all.isEmpty else { throw Self.invalid(Endpoint(.unspecified, 0)) }
            self.all = all
        }

        private static func invalid(_ remote: Endpoint) -> ConnectError {
            ConnectError(
                .invalidArgument, EINVAL,
                FourTuple(local: Endpoint(.unspecified, 0), remote: remote))
        }

        /// 127.0.0.1, 127.0.0.2 and so on, `count` of them.
        ///
        /// - Throws: `invalidArgument` unless there are 1 to 254.
        public static func loopback(port: UInt16, count: Int = 254) throws(ConnectError)
            -> Destinations
        {
            guard (1...254).contains(count) else {
                throw invalid(Endpoint(IPAddress(v4: 127, 0, 0, 1), port))
            }
            return try Destinations(
                (1...count).map { Endpoint(IPAddress(v4: 127, 0, 0, UInt8($0)), port) })
        }

        /// All of them, beginning with the one whose turn it is.
        private var inTurn: [Endpoint] {
            let start = next.wrappingAdd(1, ordering: .relaxed).oldValue
            let first = Int(UInt(bitPattern: start) % UInt(all.count))
            return Array(all[first...] + all[..<first])
        }

        /// What `connect` makes of the one whose turn it is; of the next when all ports to that are
        /// busy.
        func connectInTurn(_ connect: (Endpoint) throws(ConnectError) -> Connection)
            throws(ConnectError) -> Connection
        {
            var last: ConnectError?
            for destination in inTurn {
                do throws(ConnectError) {
                    return try connect(destination)
                } catch {
                    guard error.reason == .exhausted else { throw error }
                    last = error
                }
            }
            throw last!
        }

        /// The same for a `connect` that is awaited.
        func awaitInTurn(_ connect: (Endpoint) async throws(ConnectError) -> Connection)
            async throws(ConnectError) -> Connection
        {
            var last: ConnectError?
            for destination in inTurn {
                do throws(ConnectError) {
                    return try await connect(destination)
                } catch {
                    guard error.reason == .exhausted else { throw error }
                    last = error
                }
            }
            throw last!
        }
    }
}
