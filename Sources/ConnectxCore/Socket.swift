// SPDX-License-Identifier: Apache-2.0
// The socket to connect: what it is already, and the few calls that are made on it.

import CTupleguardLinux
package import TupleguardSockets

/// A socket of somebody else, with what was found out about it.
package struct Socket {
    package let raw: Int32
    package let family: Int32
    package let transport: Transport
    /// Whether the caller has only just made it, so that nothing about it needs asking.
    let isNew: Bool
    /// What it is bound to; unspecified and 0 where it is not.
    private(set) var local = Endpoint(.unspecified, 0)
    private(set) var interface: UInt32 = 0
    private var reuseAddress: Int32 = 0
    private var reusePort: Int32 = 0
    /// IP_BIND_ADDRESS_NO_PORT of a TCP socket.
    private var noPort: Int32 = 0
    /// IP_LOCAL_PORT_RANGE as it was; 0 for the namespace's.
    private(set) var portRange: UInt32 = 0

    /// A socket that was just made, unbound and without options.
    package init(new raw: Int32, family: Int32, transport: Transport) {
        self.raw = raw
        self.family = family
        self.transport = transport
        isNew = true
    }

    /// Looks at a socket of the caller's.
    package init(_ raw: Int32) throws(ConnectError) {
        self.raw = raw
        isNew = false
        do throws(Errno) {
            let name = try SocketName { getsockname(raw, $0, $1) }
            family = name.family
            local = name.endpoint
            transport = try Self.transport(of: raw, isBound: local.port != 0)
            reuseAddress = try SocketOption.reuseAddress.get(raw)
            interface = UInt32(bitPattern: try SocketOption.boundInterface.get(raw))
            if transport == .tcp {
                noPort = (try? SocketOption.bindAddressNoPort.get(raw)) ?? 0
            } else {
                reusePort = try SocketOption.reusePort.get(raw)
                portRange = (try? SocketOption.localPortRange.get(raw)) ?? 0
            }
        } catch {
            throw Self.unusable(error)
        }
        // One that is not bound is not connected either (inet_dgram_connect).
        if transport == .udp && local.port != 0 && isConnected {
            throw ConnectError(.alreadyConnected, EISCONN, tuple(to: nil))
        }
    }

    private static func transport(of raw: Int32, isBound: Bool) throws(Errno) -> Transport {
        let number = try SocketOption.transport.get(raw)
        // A raw socket has its protocol as its port from the beginning (inet_create).
        if number == 17 && !isBound { return .udp }  // IPPROTO_UDP
        switch (try SocketOption.type.get(raw), number) {
        case (1, 6), (1, 262): return .tcp  // SOCK_STREAM; IPPROTO_TCP, IPPROTO_MPTCP
        case (2, 17): return .udp  // SOCK_DGRAM
        default: throw Errno(EOPNOTSUPP)
        }
    }

    private static func unusable(_ error: Errno) -> ConnectError {
        let nothing = FourTuple(local: Endpoint(.unspecified, 0), remote: Endpoint(.unspecified, 0))
        switch error.number {
        case EBADF, ENOTSOCK: return ConnectError(.badDescriptor, error.number, nothing)
        case EAFNOSUPPORT: return ConnectError(.unsupportedSocket, EOPNOTSUPP, nothing)
        default: return ConnectError(.unsupportedSocket, error.number, nothing)
        }
    }

    var isConnected: Bool {
        let peer: SocketName?
        do throws(Errno) { peer = try SocketName { getpeername(raw, $0, $1) } } catch { peer = nil }
        return peer != nil
    }

    func tuple(to remote: Endpoint?) -> FourTuple {
        FourTuple(local: local, remote: remote ?? Endpoint(.unspecified, 0))
    }

    // MARK: - Calls

    /// bind(2): 0, or the error's number.
    package func bindName(_ endpoint: Endpoint, scope: UInt32) -> Int32 {
        endpoint.withSocketAddress(family: family, scope: scope) { name, length in
            bind(raw, name, length) == 0 ? 0 : linux_errno()
        }
    }

    /// connect(2): 0, or the error's number.
    func connectName(_ destination: Destination) -> Int32 {
        destination.endpoint.withSocketAddress(
            family: family, scope: destination.scope, flowInfo: destination.flowInfo
        ) {
            connect(raw, $0, $1) == 0 ? 0 : linux_errno()
        }
    }

    /// connect(AF_UNSPEC), which takes a port away again that the kernel chose.
    func disconnect() { _ = ConnectxCore.disconnect(raw) }

    /// The source that connect() takes, seen by connecting, from a port that is shared with nobody,
    /// and disconnecting again.
    ///
    /// - Returns: nil for a socket that is bound, which would lose its port, and where no port is
    ///   left to try from.
    /// - Throws: the error of connect().
    func sourceByTrial(_ destination: Destination) throws(Errno) -> IPAddress? {
        guard local.port == 0 else { return nil }
        if reusePort != 0 { try SocketOption.reusePort.set(raw, 0) }
        if reuseAddress != 0 { try share(false) }
        let error = connectName(destination)
        defer {
            disconnect()
            restore(hasAddressOnly: false)
        }
        guard error == 0 else {
            if error == EAGAIN || isRefusal(error) { return nil }
            throw Errno(error)
        }
        return try Endpoint { getsockname(raw, $0, $1) }.address
    }

    package func share(_ isOn: Bool) throws(Errno) {
        try SocketOption.reuseAddress.set(raw, isOn ? 1 : 0)
    }

    /// Whether it was ready to share its port before.
    var wasShared: Bool { reuseAddress != 0 || reusePort != 0 }

    /// Before it is bound: ready to share, with nothing set that would undo what we do: with
    /// SO_REUSEPORT sockets of one user share a port whatever SO_REUSEADDR says.
    func prepareToShare() throws(Errno) {
        if reusePort != 0 { try SocketOption.reusePort.set(raw, 0) }
        try share(true)
    }

    /// Before it is bound: with nothing set that would let others onto its port.
    func prepareToOwn() throws(Errno) {
        if reusePort != 0 { try SocketOption.reusePort.set(raw, 0) }
        if reuseAddress != 0 { try share(false) }
    }

    func restoreReusePort() {
        if reusePort != 0 { try? SocketOption.reusePort.set(raw, reusePort) }
    }

    /// Binds to a device, if it is not bound to it yet.
    mutating func bindInterface(_ index: UInt32) throws(Errno) {
        guard index != 0, index != interface else { return }
        try SocketOption.boundInterface.set(raw, Int32(bitPattern: index))
        interface = index
    }

    /// What a failed call leaves behind: the options as they were, and no address where the
    /// kernel lets go of it.
    ///
    /// - Parameters:
    ///   - hasAddressOnly: whether this call bound the socket, and only its address is left.
    ///   - noPort: whether this call took IP_BIND_ADDRESS_NO_PORT off.
    func restore(hasAddressOnly: Bool, noPort: Bool = false) {
        do throws(Errno) {
            try share(reuseAddress != 0)
            restoreReusePort()
            if hasAddressOnly && local.address.isAny {
                // bind to port 0 sets the address anew, and disconnecting takes the port away.
                if bindName(Endpoint(.unspecified, 0), scope: 0) == 0 { disconnect() }
            }
            if noPort {
                try SocketOption.bindAddressNoPort.set(raw, 1)
            } else if transport == .tcp && self.noPort == 0 && !isNew {
                try SocketOption.bindAddressNoPort.set(raw, 0)
            }
        } catch {}
    }

    /// Ends a connection of this call's that came to nothing, and leaves the socket as after a call
    /// that failed.
    package func abandon(from source: Source) {
        disconnect()
        // getsockname() of a TCP socket goes on telling a port that it has not any more.
        let isBound =
            transport == .tcp
            ? source.port != nil : (try? Endpoint { getsockname(raw, $0, $1) })?.port != 0
        if !isBound { restore(hasAddressOnly: transport == .udp || source.address != nil) }
    }
}

/// connect(2) with AF_UNSPEC: ends a connection; 0, or -1 with errno.
@discardableResult
package func disconnect(_ socket: Int32) -> Int32 {
    var name = sockaddr()
    name.sa_family = sa_family_t(AF_UNSPEC)
    return connect(socket, &name, socklen_t(MemoryLayout<sockaddr>.size))
}

/// A UDP socket that shares its port, for as long as a question to the kernel takes.
struct ThrowAway: ~Copyable {
    private let descriptor: OwnedDescriptor
    let socket: Socket

    init(family: Int32) throws(Errno) {
        let descriptor = try OwnedDescriptor(openSocket(family, .udp))
        let socket = Socket(new: descriptor.raw, family: family, transport: .udp)
        try socket.share(true)
        self.descriptor = descriptor
        self.socket = socket
    }
}

/// A new socket of this protocol, close-on-exec, for OwnedDescriptor to take.
package func openSocket(_ family: Int32, _ transport: Transport, isNonBlocking: Bool = false)
    -> () -> Int32
{
    var type = (transport == .tcp ? SOCK_STREAM : SOCK_DGRAM).rawValue | SOCK_CLOEXEC.rawValue
    if isNonBlocking { type |= SOCK_NONBLOCK.rawValue }
    return { socket(family, Int32(type), 0) }
}
