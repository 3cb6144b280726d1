// SPDX-License-Identifier: Apache-2.0
// What the sockets of one protocol come to in one network namespace.

package import TupleguardSockets

/// What the sockets of one protocol come to in one network namespace.
package struct TransportSurvey: Sendable {
    /// Ephemeral ports at one local address.
    package struct Source: Sendable {
        /// Unspecified: sockets that are bound to no address, and so have their port at every one.
        package let address: IPAddress
        /// Different ports in use here, or at no address in particular.
        package let ports: Int
        /// Those of them that several sockets share.
        package let sharedPorts: Int
        package let sockets: Int
        /// Those of them in TIME_WAIT (TCP).
        package let timeWait: Int
    }

    /// A pair of local address and destination, for which each port serves once.
    package struct Pair: Hashable, Sendable {
        package let source: IPAddress
        package let remote: Endpoint
    }

    /// Connections between one local address and one destination, from ephemeral ports.
    package struct Destination: Sendable {
        package let pair: Pair
        package let used: Int
        /// Those of them in TIME_WAIT (TCP).
        package let timeWait: Int
        /// Those of these for less than a second: no new connection takes their ports, whatever
        /// tcp_tw_reuse says.
        package let freshTimeWait: Int
        /// Ports that connect() cannot use for this destination, because sockets to other ones, or
        /// to none, have them from bind(), at whatever address (TCP): listeners, sockets that are
        /// not connected yet, and see `SolePort`.
        package let locked: Int
        /// The sockets' inodes; only for the busiest.
        package let inodes: [UInt32]
    }

    /// A connected TCP socket that has an ephemeral port for itself.
    package struct SolePort: Sendable {
        package let inode: UInt32
        package let source: IPAddress
        /// Whether the port has an odd distance from the lowest of the range.
        ///
        /// bind() to port 0 takes those while there are some (inet_csk_find_open_port), connect()
        /// the others (__inet_hash_connect): the port tells how it was chosen.
        package let isOdd: Bool
    }

    /// Most ports first.
    package internal(set) var sources: [Source] = []
    /// The busiest, most first.
    package internal(set) var destinations: [Destination] = []
    /// Whether there are more than these.
    package internal(set) var hasMoreDestinations = false
    /// The most sockets that any of the destinations beyond these has.
    package internal(set) var mostUsedOfOthers = 0
    /// TCP sockets, bound without IP_BIND_ADDRESS_NO_PORT or not bound at all, whose port nobody
    /// else uses.
    package internal(set) var solePorts: [SolePort] = []
    /// Whether bind() has used up nearly all the ports that it takes first.
    package internal(set) var oddPortsAreScarce = false
    /// Inodes of the sockets that have an ephemeral port for themselves (UDP).
    package internal(set) var inodes: [UInt32] = []
    /// How many local addresses there were no room for: `sources` has the first thousand.
    package internal(set) var unlistedSources = 0

    package init() {}
}
