// SPDX-License-Identifier: Apache-2.0
// Where an agent serves its metrics.

package import TupleguardSockets

package enum MetricsAddress: Hashable, Sendable, CustomStringConvertible {
    /// HTTP at this address and port; port 0 takes one that is free.
    case tcp(Endpoint)
    /// HTTP on a Unix socket at this path.
    case unix(path: String)

    /// Parses "127.0.0.1:9469", "[::1]:9469" or an absolute path; nil for anything else.
    package init?(_ text: String) {
        if text.hasPrefix("/") {
            guard UnixSocketName(text) != nil else { return nil }
            self = .unix(path: text)
        } else if let endpoint = Endpoint(text), !endpoint.address.isMulticast {
            self = .tcp(endpoint)
        } else {
            return nil
        }
    }

    package var description: String {
        switch self {
        case .tcp(let endpoint): "\(endpoint)"
        case .unix(let path): path
        }
    }
}
