// SPDX-License-Identifier: Apache-2.0
// The C functions in Swift: arguments checked, handed to the core, the outcome as errno.
//
// scripts/connectx-library compiles this and what it stands on in Embedded Swift.

public import CConnectx
import CTupleguardLinux
import ConnectxCore
import TupleguardSockets

@_cdecl("connectx_call")
public func connectxCall(
    _ descriptor: Int32, _ endpoints: UnsafePointer<sa_endpoints_t>?, _ association: UInt32,
    _ flags: UInt32, _ vectors: UnsafePointer<iovec>?, _ vectorCount: UInt32,
    _ length: UnsafeMutablePointer<Int>?, _ connection: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    length?.pointee = 0
    connection?.pointee = 0
    do throws(Errno) {
        guard let endpoints, association == 0 else { throw Errno(EINVAL) }
        let data = UnsafeBufferPointer(start: vectors, count: Int(vectorCount))
        let first = try FirstData(flags: flags, data, hasVectors: vectors != nil)
        let patience: Patience = flags & UInt32(CONNECT_NO_WAIT) != 0 ? .failsAtOnce : .asSocket
        let call = try Call(descriptor, endpoints.pointee, first, patience)
        let sent = try call.run()
        length?.pointee = sent
        return 0
    } catch {
        linux_set_errno(error.number)
        return -1
    }
}

@_cdecl("disconnectx_call")
public func disconnectxCall(
    _ descriptor: Int32, _ association: UInt32, _ connection: UInt32
) -> Int32 {
    guard association == 0 || association == .max, connection == 0 || connection == .max else {
        linux_set_errno(EINVAL)
        return -1
    }
    do throws(Errno) {
        // Of a listening socket it would end the listening.
        guard try hasPeer(descriptor) else { throw Errno(ENOTCONN) }
    } catch {
        linux_set_errno(error.number)
        return -1
    }
    return disconnect(descriptor)
}

/// Whether a socket is connected, or a TCP socket is about to be.
private func hasPeer(_ descriptor: Int32) throws(Errno) -> Bool {
    do throws(Errno) {
        _ = try SocketName { getpeername(descriptor, $0, $1) }
        return true
    } catch {
        guard error.number == ENOTCONN else { throw error }
        do throws(Errno) {
            return try SocketOption.tcpState.get(descriptor) == 2  // TCP_SYN_SENT
        } catch {
            return false
        }
    }
}

extension FirstData {
    fileprivate init(
        flags: UInt32, _ data: UnsafeBufferPointer<iovec>, hasVectors: Bool
    ) throws(Errno) {
        let known = UInt32(
            CONNECT_RESUME_ON_READ_WRITE | CONNECT_DATA_IDEMPOTENT | CONNECT_NO_WAIT)
        let isDeferred = flags & UInt32(CONNECT_RESUME_ON_READ_WRITE) != 0
        let isIdempotent = flags & UInt32(CONNECT_DATA_IDEMPOTENT) != 0
        // An iov without a count, a count without an iov, or a promise about data that is not
        // there.
        guard flags & ~known == 0, hasVectors == !data.isEmpty, data.count <= 1024,
            !(isDeferred && hasVectors), !(isIdempotent && !hasVectors && !isDeferred)
        else { throw Errno(EINVAL) }
        self =
            isDeferred
            ? .deferred
            : isIdempotent ? .withConnect(data) : hasVectors ? .afterConnect(data) : .none
    }
}

/// One call of connectx(), its arguments read.
private struct Call {
    let socket: Socket
    let source: Source
    let destination: Destination
    let first: FirstData
    let patience: Patience

    init(
        _ descriptor: Int32, _ endpoints: sa_endpoints_t, _ first: FirstData, _ patience: Patience
    ) throws(Errno) {
        guard let name = try Self.name(endpoints.sae_dstaddr, endpoints.sae_dstaddrlen) else {
            throw Errno(EINVAL)
        }
        destination = Destination(name.scopedEndpoint, flowInfo: name.flowInfo)
        let from = try Self.name(endpoints.sae_srcaddr, endpoints.sae_srcaddrlen)
        source = Source(
            from?.endpoint ?? Endpoint(.unspecified, 0),
            interface: endpoints.sae_srcif == 0 ? nil : endpoints.sae_srcif)
        do throws(ConnectError) {
            socket = try Socket(descriptor)
        } catch {
            throw Errno(error.errno)
        }
        // A v4 socket takes AF_INET names only; a v6 one takes both, as connect(2) does.
        guard socket.family == AF_INET6 || name.family == AF_INET,
            from == nil || socket.family == AF_INET6 || from!.family == AF_INET
        else { throw Errno(EAFNOSUPPORT) }
        self.first = first
        self.patience = patience
    }

    private static func name(_ pointer: UnsafePointer<sockaddr>?, _ length: socklen_t) throws(Errno)
        -> SocketName?
    {
        guard let pointer else { return nil }
        return try SocketName(UnsafeRawBufferPointer(start: pointer, count: Int(length)))
    }

    /// How many bytes of the first data were taken.
    func run() throws(Errno) -> Int {
        let outcome: Outcome
        do throws(ConnectError) {
            outcome = try connect(socket, from: source, to: destination, first, patience)
        } catch {
            throw Errno(error.errno)
        }
        if outcome.progress == .inProgress { throw Errno(EINPROGRESS) }
        if outcome.progress == .interrupted { throw Errno(EINTR) }
        return outcome.sent
    }
}
