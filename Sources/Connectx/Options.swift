// SPDX-License-Identifier: Apache-2.0
// How to connect, where the caller does not leave it to the library.

import CTupleguardLinux
@_exported public import ConnectxCore
@_exported public import TupleguardSockets

extension Connectx {
    /// How to connect, where the caller does not leave it to the library.
    public struct Options: Sendable {
        /// Whether the socket is left with O_NONBLOCK.
        ///
        /// A TCP socket of `open` has it in any case.
        public var isNonBlocking = false
        /// How long to wait for a TCP connection, and for a name's addresses; nil: as long as the
        /// kernel tries (tcp_syn_retries).
        public var timeout: Duration?
        /// With several addresses of one host: how long one has for itself before the next is tried
        /// beside it; 10 ms at least (RFC 8305, Connection Attempt Delay).
        public var attemptDelay = Duration.milliseconds(250)
        /// How a TCP connection from an address gets its port.
        public var strategy = Strategy.automatic
        /// What is sent first, and when.
        public var firstData = FirstData.none
        /// Whether a UDP connection fails at once (`contended`) when others wait on the port that
        /// was named, or are just connecting from it. Else that is tried again for up to 12 ms:
        /// whoever connects from it to another destination has it locked for some microseconds.
        public var failsWhenContended = false

        /// Leaves everything to the library.
        public init() {}

        /// When the patience of a call that begins now is at its end.
        var deadline: ContinuousClock.Instant? { timeout.map { .now + $0 } }

        /// The ways in which a TCP connection from an address can get its port.
        public enum Strategy: Hashable, Sendable {
            /// As the table at `connect(_:to:from:options:configure:)` says.
            case automatic
            /// The older way, for kernels and sandboxes without IP_BIND_ADDRESS_NO_PORT:
            /// SO_REUSEADDR, bind to port 0, connect; and again with a new socket when the port
            /// that bind() chose was taken for this destination, so many times at most. The last
            /// goes without SO_REUSEADDR, and so gets a port that nobody has. bind() gives out
            /// ports that others share only with net.ipv4.ip_autobind_reuse; then, with half the
            /// ports busy, eight attempts fail one time in 256. Without it each port serves one
            /// destination.
            case bindRetry(attempts: Int)

            /// Eight attempts.
            public static let bindRetry = Strategy.bindRetry(attempts: 8)
        }

        /// The first data of a connection.
        public enum FirstData: Hashable, Sendable {
            /// Nothing: the handshake is made at once.
            case none
            /// TCP: in the SYN, where the kernel has a Fast Open cookie of the server; else after
            /// the handshake. UDP: as the first datagram.
            /// It may arrive twice (RFC 7413): send only what does no harm then.
            case fastOpen([UInt8])
            /// TCP: the connection is opened by the first write, where the kernel has a cookie;
            /// else at once.
            case deferred
        }
    }

    /// A socket before it is connected, for `configure` to set options on.
    ///
    /// The first option that is refused ends the attempt: the function that was given `configure`
    /// throws `optionRefused`, with the errno.
    public struct UnconnectedSocket: ~Copyable {
        /// For setsockopt(2) and the like. It stays the library's.
        public let descriptor: Int32
        private(set) var failure: Int32?

        init(_ descriptor: Int32) {
            self.descriptor = descriptor
        }

        /// setsockopt(2) of a number: `$0.set(SOL_SOCKET, SO_MARK, to: 7)`.
        public mutating func set(
            _ level: some BinaryInteger, _ option: some BinaryInteger, to value: Int32
        ) {
            do throws(Errno) {
                try SocketOption<Int32>(Int32(level), Int32(option)).set(descriptor, value)
            } catch {
                fail(error.number)
            }
        }

        /// Ends the attempt with this errno, once `configure` returns: for what `set` cannot do.
        public mutating func fail(_ errno: Int32) { failure = failure ?? errno }
    }

    /// Sets options of a socket before it is connected. It is called once for each socket that is
    /// made.
    public typealias Configuration = @Sendable (inout UnconnectedSocket) -> Void

    /// Lets `configure` set the options of a socket that is to be connected.
    package static func configure(
        _ socket: Int32, for destination: Endpoint, _ configure: Configuration?
    ) throws(ConnectError) {
        guard let configure else { return }
        var socket = UnconnectedSocket(socket)
        configure(&socket)
        if let number = socket.failure {
            throw ConnectError(
                .optionRefused, number,
                FourTuple(local: Endpoint(.unspecified, 0), remote: destination))
        }
    }
}

extension Connectx.Options.FirstData {
    func withVectors<Result>(_ body: (ConnectxCore.FirstData) throws(ConnectError) -> Result)
        throws(ConnectError) -> Result
    {
        switch self {
        case .none: return try body(.none)
        case .deferred: return try body(.deferred)
        case .fastOpen(var bytes):
            guard !bytes.isEmpty else {
                throw ConnectError(
                    .invalidArgument, EINVAL,
                    FourTuple(local: Endpoint(.unspecified, 0), remote: Endpoint(.unspecified, 0)))
            }
            return try bytes.withUnsafeMutableBufferPointer { bytes throws(ConnectError) in
                let vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
                return try withUnsafePointer(to: vector) { pointer throws(ConnectError) in
                    try body(.withConnect(UnsafeBufferPointer(start: pointer, count: 1)))
                }
            }
        }
    }
}
