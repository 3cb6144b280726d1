// SPDX-License-Identifier: Apache-2.0
// connectx: outgoing TCP and UDP connections that share source ports safely.

import CTupleguardLinux
@_exported public import ConnectxCore
import Glibc
@_exported public import TupleguardSockets

/// How to connect, where the caller does not leave it to the library.
public struct ConnectOptions: Sendable {
    /// Whether the socket is made with SOCK_NONBLOCK. A TCP connection is then returned while it
    /// is under way (`Connection.state`).
    public var isNonBlocking = false
    /// How long to wait for a TCP connection; nil: as long as the kernel tries (tcp_syn_retries).
    public var timeout: Duration?
    /// How a TCP connection from an address gets its port.
    public var strategy = Strategy.automatic
    /// What is sent first, and when.
    public var firstData = Data.none

    /// The ways in which a TCP connection from an address can get its port.
    public enum Strategy: Hashable, Sendable {
        /// As the table in `connectx(_:to:from:options:)` says.
        case automatic
        /// The older way, for kernels and sandboxes without IP_BIND_ADDRESS_NO_PORT: SO_REUSEADDR,
        /// bind to port 0, connect; and again with a new socket when the port that bind() chose was
        /// taken for this destination, so many times at most. The last goes without SO_REUSEADDR,
        /// and so gets a port that nobody has. bind() gives out ports that others share only with
        /// net.ipv4.ip_autobind_reuse; then, with half the ports busy, eight attempts fail one time
        /// in 256. Without it each port serves one destination.
        case bindRetry(attempts: Int)

        /// Eight attempts.
        public static let bindRetry = Strategy.bindRetry(attempts: 8)
    }

    /// The first data of a connection.
    public enum Data: Hashable, Sendable {
        /// Nothing: the handshake is made at once.
        case none
        /// TCP: in the SYN, where the kernel has a Fast Open cookie of the server; else after the
        /// handshake. UDP: as the first datagram.
        /// It may arrive twice (RFC 7413): send only what does no harm then.
        case fastOpen([UInt8])
        /// TCP: the connection is opened by the first write, where the kernel has a cookie; else at
        /// once.
        case deferred
    }

    /// Leaves everything to the library.
    public init() {}
}

/// What a connection came to.
public struct Connected: Hashable, Sendable {
    /// How far a connection is when the call returns.
    public enum State: Hashable, Sendable {
        /// Both ends are known, and data may be sent.
        case connected
        /// TCP, non-blocking: wait until the socket can be written to, and read SO_ERROR.
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
    /// How many bytes of the first data the kernel took: all, unless the socket does not block.
    /// What is left is then to be sent when it can be written to.
    public internal(set) var sent: Int
}

/// A connected socket with one owner, which closes it.
public struct Connection: ~Copyable, Sendable {
    /// Borrow its `raw` for send, recv, poll; or keep the whole, with `consume`.
    public let descriptor: OwnedDescriptor
    /// How it came about, and how far it is.
    public internal(set) var result: Connected

    /// The two ends, as `result` has them.
    public var tuple: FourTuple { result.tuple }
    /// By which calls it came about, as `result` has it.
    public var technique: Technique { result.technique }

    /// Hands the descriptor over.
    public consuming func take() -> OwnedDescriptor { descriptor }
}

/// Makes a socket and connects it.
///
/// | the caller gives | TCP | UDP |
/// | --- | --- | --- |
/// | destination | connect | source by route, port by discovery, then as below |
/// | source address | IP_BIND_ADDRESS_NO_PORT, bind, connect | port by discovery, then as below |
/// | source address and port | SO_REUSEADDR, bind, connect | the SO_REUSEADDR lock with the bind barrier, or under a guard bind and connect |
///
/// Safe to call from any thread. Blocks while a TCP connection is opened, unless the options say
/// otherwise; UDP takes about 20 us, and up to some milliseconds when nearly all ports to the
/// destination are busy and the kernel has to list who has them.
///
/// - Throws: `ConnectError`. Nothing is left open.
public func connectx(
    _ transport: Transport, to destination: Destination, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) throws(ConnectError) -> Connection {
    let opening = Opening(transport, destination, source, options)
    var connection = try opening.open(isNonBlocking: options.timeout != nil)
    guard connection.result.state == .inProgress, !options.isNonBlocking else { return connection }
    let deadline = options.timeout.map { ContinuousClock.now + $0 }
    let raw = connection.descriptor.raw
    try opening.finish(&connection, waitUntilWritable(raw, until: deadline))
    while try !opening.sendRest(&connection) {
        try opening.check(waitUntilWritable(raw, until: deadline), connection.tuple)
    }
    return connection
}

/// The same to an endpoint without a scope.
public func connectx(
    _ transport: Transport, to endpoint: Endpoint, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) throws(ConnectError) -> Connection {
    try connectx(transport, to: Destination(endpoint), from: source, options: options)
}

/// Connects a socket of the caller's, which may be bound already.
///
/// A TCP socket that does not block is left connecting (`.inProgress`). `isNonBlocking`, `timeout`
/// and `strategy` of the options concern sockets that are made here, and do nothing.
///
/// When it throws, the socket has its options back and is unbound again, except: a TCP
/// socket whose port was named stays bound to it, and so does a UDP socket whose port was named and
/// is outside ip_local_port_range, or on a kernel without IP_LOCAL_PORT_RANGE (before Linux 6.3);
/// one that was bound to an interface stays bound to that.
///
/// When it returns, SO_REUSEADDR of a UDP socket is set: cleared, its port could not be shared any
/// more. A UDP port from ip_local_port_range is given back by connect(AF_UNSPEC).
public func connectx(
    _ socket: Int32, to destination: Destination, from source: Source = .any,
    options: ConnectOptions = ConnectOptions()
) throws(ConnectError) -> Connected {
    let socket = try Socket(socket)
    let outcome = try options.firstData.withVectors { data throws(ConnectError) in
        try connect(socket, from: source, to: destination, data)
    }
    return Connected(outcome, socket.raw, destination)
}

extension ConnectOptions.Data {
    func withVectors<Result>(_ body: (FirstData) throws(ConnectError) -> Result)
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

extension Connected {
    init(_ outcome: Outcome, _ raw: Int32, _ destination: Destination) {
        state =
            switch outcome.progress {
            case .connected: .connected
            case .inProgress, .interrupted: .inProgress
            case .deferred: .deferred
            }
        technique = outcome.technique
        let local = try? Endpoint { getsockname(raw, $0, $1) }
        let remote = try? Endpoint { getpeername(raw, $0, $1) }
        tuple = FourTuple(
            local: local ?? Endpoint(.unspecified, 0), remote: remote ?? destination.endpoint)
        sent = outcome.sent
    }
}
