// SPDX-License-Identifier: Apache-2.0
// What source NAT of one network namespace has given out, and how full its table is.

package import TupleguardSockets

/// The connections that the kernel tracks in one network namespace, and those of them that it sends
/// on from another port.
package struct TranslationSurvey: Sendable {
    /// Ports that source NAT has given to connections between one address of its own and one
    /// destination.
    package struct Destination: Sendable {
        package let transport: Transport
        package let pair: TransportSurvey.Pair
        package let used: Int
        /// Those of them whose connection is over (TCP).
        package let timeWait: Int
        let sample: PortSample

        /// About how many of an earlier look's connections were gone at this one.
        package func ended(since earlier: Destination) -> Int {
            earlier.sample.missing(in: sample) * PortSample.ratio
        }
    }

    /// The busiest, most first.
    package internal(set) var destinations: [Destination] = []
    /// By how many ports any of these may be told too low: see `TranslationTally`.
    package internal(set) var undercount = 0
    /// Connections that are tracked, translated or not (nf_conntrack_count).
    package internal(set) var tracked = 0
    /// How many may be (nf_conntrack_max); 0 for as many as there is memory for.
    package internal(set) var limit = 0
    /// Why the connections could not be listed; nil when they were.
    package internal(set) var fault: String?

    package init() {}

    /// Of which ports source NAT chooses, where its rule says nothing else and the connection came
    /// from one of them (nf_nat_l4proto_unique_tuple).
    package static let defaultPorts: ClosedRange<UInt16> = 1024...65_535
}

/// Which of about a thousand ports, one in 64, are in use: 128 bytes. Two of them tell how many
/// connections ended between two looks.
struct PortSample: Hashable, Sendable {
    static let ratio = 64
    private var words = [UInt64](repeating: 0, count: 16)

    /// Neighbours are often one program's: a multiplication scatters them.
    mutating func insert(_ port: UInt16) {
        let scattered = Int(port &* 40_503)
        guard scattered < words.count * 64 else { return }
        words[scattered >> 6] |= 1 << UInt64(scattered & 63)
    }

    /// How many of these are not in the other.
    func missing(in other: PortSample) -> Int {
        zip(words, other.words).reduce(0) { $0 + ($1.0 & ~$1.1).nonzeroBitCount }
    }
}
