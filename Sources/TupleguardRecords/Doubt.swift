// SPDX-License-Identifier: Apache-2.0
// What decides who of several sockets receives, where that is not the same for every datagram.

/// Why none of the sockets that share a tuple can be called the one that receives.
package enum Doubt: String, Codable, Sendable {
    /// Up to Linux 6.12 the look-up prefers a socket that received on the same processor before
    /// (compute_score, sk_incoming_cpu).
    case processor
    /// What comes by a device goes to the socket that came to the port last, if no other port's is
    /// in its way (__udp4_lib_demux_lookup), and the look-up finds another or which one that is
    /// cannot be told.
    case arrival
    /// Not every processor could be asked.
    case unaskedProcessors = "unasked-processors"

    /// "which of them receives depends on ..."
    package var explanation: String {
        switch self {
        case .processor: "the processor that handles the datagram"
        case .arrival: "how the datagram arrives, and which of them came to the port last"
        case .unaskedProcessors: "processors that this process may not run on, and could not ask"
        }
    }
}
