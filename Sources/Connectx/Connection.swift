// SPDX-License-Identifier: Apache-2.0
// A connected socket, and how it came about.

import CTupleguardLinux
public import ConnectxCore
public import TupleguardSockets

extension Connectx {
    /// A connected socket with one owner, which closes it.
    public struct Connection: ~Copyable, Sendable {
        package let descriptor: OwnedDescriptor
        /// How it came about, and how far it is.
        public internal(set) var outcome: Outcome

        /// This end and the other, with the scopes of link-local addresses.
        public var tuple: FourTuple { outcome.tuple }
        /// By which calls it came about.
        public var technique: Technique { outcome.technique }
        /// How far it is.
        public var state: Outcome.State { outcome.state }

        /// Lends the descriptor, for send(2), recv(2), poll(2). It is not to be closed, nor kept
        /// beyond the closure.
        public borrowing func withDescriptor<Result: ~Copyable, Failure: Error>(
            _ body: (Int32) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try body(descriptor.raw)
        }

        /// Hands the descriptor over, with the duty to close it.
        public consuming func takeDescriptor() -> Int32 { descriptor.release() }
    }

    /// What a connection came to.
    public struct Outcome: Hashable, Sendable {
        /// How far a connection is when the call returns.
        public enum State: Hashable, Sendable {
            /// Both ends are known, and data may be sent.
            case connected
            /// TCP, from `open`: wait until the socket can be written to, and read SO_ERROR.
            case inProgress
            /// TCP: the first write opens it.
            case deferred
        }

        /// How far it is.
        public internal(set) var state: State
        /// By which calls it came about.
        public let technique: Technique
        /// As getsockname and getpeername tell it. The remote end is what was asked for.
        public let tuple: FourTuple
        /// How many bytes of the first data the kernel took: all, unless the socket was not to be
        /// waited for. What is left is then to be sent when it can be written to.
        public internal(set) var sent: Int
    }
}

extension Connectx.Outcome {
    init(_ outcome: ConnectxCore.Outcome, _ raw: Int32, _ destination: Endpoint) {
        state =
            switch outcome.progress {
            case .connected: .connected
            case .inProgress, .interrupted: .inProgress
            case .deferred: .deferred
            }
        technique = outcome.technique
        let local = try? SocketName { getsockname(raw, $0, $1) }
        let remote = try? SocketName { getpeername(raw, $0, $1) }
        tuple = FourTuple(
            local: local?.scopedEndpoint ?? Endpoint(.unspecified, 0),
            remote: remote?.scopedEndpoint ?? destination)
        sent = outcome.sent
    }
}
