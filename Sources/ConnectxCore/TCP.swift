// SPDX-License-Identifier: Apache-2.0
// Connecting a TCP socket. Here the kernel itself refuses a duplicate 4-tuple;
// what matters is not to reserve a port before the destination is known.

import CTupleguardLinux
import TupleguardSockets

/// What becomes of a TCP socket's connect.
package enum Progress {
    case connected
    /// Not over yet: the socket does not block.
    case inProgress
    /// Not over yet: a signal came (EINTR).
    case interrupted
    /// The SYN goes with the first write.
    case deferred
}

/// One call for a TCP socket.
struct TCPCall {
    let socket: Socket
    let source: Source
    let destination: Destination

    private func error(
        _ reason: ConnectError.Reason, _ errno: Int32, _ isFromBind: Bool = false
    ) -> ConnectError {
        let local = Endpoint(source.address ?? .unspecified, source.port ?? 0)
        return ConnectError(
            reason, errno, FourTuple(local: local, remote: destination.endpoint),
            isFromBind: isFromBind)
    }

    /// Binds as the source asks, and tells how the connection will come about.
    func prepare() throws(ConnectError) -> Technique {
        do throws(Errno) {
            if let port = source.port {
                try socket.share(true)
                try bindName(port: port)
                return .reuseAddress
            }
            guard source.address != nil else { return .plain }
            // The port is left to connect(), which knows the destination (inet_hash_connect).
            try SocketOption.bindAddressNoPort.set(socket.raw, 1)
            try bindName(port: 0)
            return .bindAddressNoPort
        } catch {
            socket.restore(hasAddressOnly: false)
            // The port is not shared, or somebody listens on it: as connect(2) says it of a tuple.
            if error.number == EADDRINUSE { throw self.error(.conflict, EADDRNOTAVAIL, true) }
            throw self.error(.init(error.number, isFromBind: true), error.number, true)
        }
    }

    private func bindName(port: UInt16) throws(Errno) {
        let name = Endpoint(source.address ?? .unspecified, port)
        let error = socket.bindName(name, scope: destination.scope)
        if error != 0 { throw Errno(error) }
    }

    /// connect(2)
    func connect() throws(ConnectError) -> Progress {
        switch socket.connectName(destination) {
        case 0: return .connected
        case EINPROGRESS: return .inProgress
        case EINTR: return .interrupted
        case let number: throw failure(number)
        }
    }

    /// connect(2) that sends nothing yet, where the kernel has a Fast Open cookie of the server.
    func connectDeferred() throws(ConnectError) -> Progress {
        do throws(Errno) {
            try SocketOption.fastOpenConnect.set(socket.raw, 1)
        } catch {
            guard error.number == ENOPROTOOPT || error.number == EOPNOTSUPP else {
                throw failure(error.number)
            }
        }
        let progress = try connect()
        // Without a cookie the handshake was made at once, and there is a peer.
        return progress == .connected && !socket.isConnected ? .deferred : progress
    }

    /// Sends the SYN with data (MSG_FASTOPEN).
    ///
    /// - Returns: how many bytes the kernel took, 0 while a connect that does not block is under
    ///   way; nil where Fast Open is switched off (tcp_fastopen without 1), and nothing has
    ///   happened.
    func connect(sending vectors: UnsafeBufferPointer<iovec>) throws(ConnectError)
        -> (progress: Progress, sent: Int)?
    {
        let result = destination.endpoint.withSocketAddress(
            family: socket.family, scope: destination.scope, flowInfo: destination.flowInfo
        ) { name, length in
            linux_send_fast_open(socket.raw, name, length, vectors.baseAddress, vectors.count)
        }
        if result >= 0 { return (.connected, result) }
        switch linux_errno() {
        case EINPROGRESS: return (.inProgress, 0)
        case EOPNOTSUPP, ENOPROTOOPT: return nil
        case let number: throw failure(number)
        }
    }

    private func failure(_ number: Int32) -> ConnectError {
        // A socket that stays bound goes on sharing, or it would keep others off the port.
        if source.port == nil { socket.restore(hasAddressOnly: source.address != nil) }
        switch number {
        case EADDRNOTAVAIL, EADDRINUSE:
            return error(source.port == nil ? .exhausted : .conflict, EADDRNOTAVAIL)
        default: return error(.init(number, isFromBind: false), number)
        }
    }
}
