// SPDX-License-Identifier: Apache-2.0
// Several destinations for one service. Each brings a port space of its own.
import ConnectxCore
import Synchronization
import TupleguardSockets

/// Destinations that serve equally well, taken in turn by whoever connects.
///
/// A source address has one range of ports for each destination: with three destinations three
/// times as many connections fit. A local service that listens on `0.0.0.0` can be reached at
/// every address of 127.0.0.0/8 (`loopback(port:count:)`).
public final class Destinations: Sendable {
    /// In the order in which they were given.
    public let all: [Destination]
    private let next = Atomic<Int>(0)

    /// - Precondition: there is at least one.
    public init(_ all: [Destination]) {
        precondition(!all.isEmpty, "no destination")
        self.all = all
    }

    /// 127.0.0.1, 127.0.0.2 and so on, `count` of them (1 to 254).
    public static func loopback(port: UInt16, count: Int = 254) -> Destinations {
        precondition((1...254).contains(count), "127.0.0.1 to 127.0.0.254")
        return Destinations(
            (1...count).map {
                Destination(Endpoint(IPAddress(v4: 127, 0, 0, UInt8($0)), port))
            })
    }

    /// All of them, beginning with the one whose turn it is.
    func inTurn() -> [Destination] {
        let start = next.wrappingAdd(1, ordering: .relaxed).oldValue
        let first = Int(UInt(bitPattern: start) % UInt(all.count))
        return Array(all[first...] + all[..<first])
    }
}

/// Makes a socket and connects it to one of several destinations; to the next when all ports to
/// one are busy.
///
/// - Throws: `exhausted` when that is so for all; any other error of the destination whose turn it
///   is.
public func connectx(
    _ transport: Transport, toAnyOf destinations: Destinations, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) throws(ConnectError) -> Connection {
    var last: ConnectError?
    for destination in destinations.inTurn() {
        do throws(ConnectError) {
            return try connectx(transport, to: destination, from: source, options: options)
        } catch {
            guard error.reason == .exhausted else { throw error }
            last = error
        }
    }
    throw last!
}

/// The same for Swift concurrency.
public func connectx(
    _ transport: Transport, toAnyOf destinations: Destinations, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) async throws(ConnectError) -> Connection {
    var last: ConnectError?
    for destination in destinations.inTurn() {
        do throws(ConnectError) {
            return try await connectx(transport, to: destination, from: source, options: options)
        } catch {
            guard error.reason == .exhausted else { throw error }
            last = error
        }
    }
    throw last!
}
