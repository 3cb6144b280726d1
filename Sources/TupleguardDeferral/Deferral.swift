// SPDX-License-Identifier: Apache-2.0
// Ports that are chosen at connect() instead of at bind(), for programs that do not ask for it.

package import TupleguardSockets

/// Whose bind() to an address and port 0 leaves the port open.
package struct Deferral: Sendable {
    /// Of these transports.
    package var transports: Set<Transport>

    /// What getsockname() answers before connect().
    package enum Answer: String, Sendable, CaseIterable {
        /// A port: the socket is given one then, and is as it would have been without us.
        case port
        /// Port 0; the socket shares a port later.
        case zero
    }

    private let answer: Answer?

    /// - Parameter answer: nil: a port for TCP, where servers ask for theirs before listen(), and
    ///   0 for UDP, where Java asks whatever it means to do.
    package init(_ transports: Set<Transport>, answer: Answer?) {
        self.transports = transports
        self.answer = answer
    }

    package func answer(for transport: Transport) -> Answer {
        answer ?? (transport == .tcp ? .port : .zero)
    }

    /// What happened.
    package struct Counts: Sendable {
        /// Sockets whose port was left open.
        package var deferred: [Transport: UInt64] = [:]
        /// Of these, sockets that were given a port because their program asked which it is.
        package var askedAndGiven: UInt64 = 0
        /// Times that a program asked and was told 0.
        package var askedAndToldZero: UInt64 = 0
        /// Calls of processes that the kernel kept from us, which went their way, by the error.
        package var unreachable: [Errno: UInt64] = [:]
    }
}
