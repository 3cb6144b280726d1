// SPDX-License-Identifier: Apache-2.0
// The one way in: a socket, where from, where to. The Swift API and the C library check
// arguments, call this, and put the outcome into their own words.

import CConnectx
package import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// When the first data goes out.
package enum FirstData {
    case none
    /// Once the socket is connected.
    case afterConnect(UnsafeBufferPointer<iovec>)
    /// With the SYN (TCP), where the server's cookie is known; else as `afterConnect`.
    case withConnect(UnsafeBufferPointer<iovec>)
    /// The caller's first write opens the connection (TCP).
    case deferred

    fileprivate var vectors: UnsafeBufferPointer<iovec>? {
        switch self {
        case .none, .deferred: nil
        case .afterConnect(let vectors), .withConnect(let vectors): vectors
        }
    }
}

/// What came of a call that did not fail.
package struct Outcome {
    package var technique: Technique
    package let progress: Progress
    /// Bytes of the first data that the kernel took. While a connect is under way it has taken
    /// none, unless with the SYN: what is left is then for the caller to send.
    package var sent = 0
}

/// Connects `socket` from `source` to `destination`. A thread is not cancelled meanwhile.
package func connect(
    _ socket: Socket, from source: Source, to destination: Destination, _ data: FirstData = .none,
    _ patience: Patience = .asSocket
) throws(ConnectError) -> Outcome {
    let cancellation = connectx_defer_cancel()
    defer { connectx_allow_cancel(cancellation) }
    var socket = socket
    let destination = try settle(destination, for: socket, source)
    if let interface = source.interface {
        do throws(Errno) {
            try socket.bindInterface(interface)
        } catch {
            throw ConnectError(
                .init(error.number, isFromBind: false), error.number,
                socket.tuple(to: destination.endpoint))
        }
    }
    let outcome: Outcome
    switch (socket.transport, data) {
    case (.tcp, _): outcome = try connectTCP(socket, source, destination, data)
    case (.udp, .deferred):
        throw ConnectError(.invalidArgument, EOPNOTSUPP, socket.tuple(to: destination.endpoint))
    case (.udp, _):
        let technique = try connectUDP(socket, source, destination, patience)
        outcome = Outcome(technique: technique, progress: .connected)
    }
    return try deliver(data, on: socket, from: source, to: destination, outcome)
}

/// Sends the first data that did not go with the connect. Where that fails, the connection is
/// ended: data that was given is delivered, or there is an error and no connection.
private func deliver(
    _ data: FirstData, on socket: Socket, from source: Source, to destination: Destination,
    _ outcome: Outcome
) throws(ConnectError) -> Outcome {
    guard outcome.progress == .connected, outcome.sent == 0, let vectors = data.vectors else {
        return outcome
    }
    var outcome = outcome
    let sent = linux_send(socket.raw, vectors.baseAddress, vectors.count)
    let error = linux_errno()
    // Of a socket that does not block, and has no room: the caller sees from `sent` what is left.
    guard sent < 0, error != EAGAIN else {
        outcome.sent = max(sent, 0)
        return outcome
    }
    socket.abandon(from: source)
    throw ConnectError(
        .init(error, isFromBind: false), error, socket.tuple(to: destination.endpoint))
}

/// The destination as the kernel will take it, once the arguments are seen to fit together.
private func settle(_ destination: Destination, for socket: Socket, _ source: Source)
    throws(ConnectError) -> Destination
{
    let remote = destination.endpoint
    func refuse(_ reason: ConnectError.Reason, _ errno: Int32) -> ConnectError {
        let local = Endpoint(source.address ?? .unspecified, source.port ?? 0)
        return ConnectError(reason, errno, FourTuple(local: local, remote: remote))
    }
    guard remote.port != 0, source.port != 0 else { throw refuse(.invalidArgument, EINVAL) }
    var settled = destination
    if remote.address.isAny {
        let isIPv4 =
            socket.family == AF_INET || remote.address.isIPv4 || source.address?.isIPv4 == true
        settled.endpoint.address = isIPv4 ? IPAddress(v4: 127, 0, 0, 1) : .loopback6
    }
    let isIPv4 = settled.endpoint.address.isIPv4
    guard isIPv4 || socket.family == AF_INET6 else { throw refuse(.familyMismatch, EAFNOSUPPORT) }
    if let address = source.address {
        guard address.isAny || address.isIPv4 == isIPv4 else {
            throw refuse(.familyMismatch, EAFNOSUPPORT)
        }
    }
    if settled.endpoint.address.isLinkLocal6 && settled.scope == 0 {
        settled.scope = source.interface ?? 0
    }
    // A socket that is bound cannot be bound again (inet_bind).
    let isBound = socket.local.port != 0
    guard !isBound || source.port == nil || source.port == socket.local.port,
        !isBound || source.address == nil || source.address == socket.local.address
    else { throw refuse(.invalidArgument, EINVAL) }
    return settled
}

// MARK: - TCP

private func connectTCP(
    _ socket: Socket, _ source: Source, _ destination: Destination, _ data: FirstData
) throws(ConnectError) -> Outcome {
    do throws(ConnectError) {
        return try openTCP(socket, source, destination, data)
    } catch {
        if error.reason == .conflict || error.reason == .exhausted { report(error, socket) }
        throw error
    }
}

/// Tells the agent of a failed TCP connect.
private func report(_ error: ConnectError, _ socket: Socket) {
    let kind: Notice.Kind = error.reason == .conflict ? .conflict : .exhausted
    do throws(Errno) {
        let namespace = try NamespaceIdentity.of(socket.raw)
        try? NamespaceView.with(namespace) { view throws(ViewError) in
            view.notices.send(kind, .tcp, error.tuple, now: coarseTime())
        }
    } catch {}
}

private func openTCP(
    _ socket: Socket, _ source: Source, _ destination: Destination, _ data: FirstData
) throws(ConnectError) -> Outcome {
    let call = TCPCall(socket: socket, source: source, destination: destination)
    let technique = socket.local.port == 0 ? try call.prepare() : .plain
    switch data {
    case .none, .afterConnect: return Outcome(technique: technique, progress: try call.connect())
    case .deferred:
        let progress = try call.connectDeferred()
        return Outcome(
            technique: progress == .deferred ? .fastOpen : technique, progress: progress)
    case .withConnect(let vectors):
        if let (progress, sent) = try call.connect(sending: vectors) {
            return Outcome(technique: .fastOpen, progress: progress, sent: sent)
        }
        return Outcome(technique: technique, progress: try call.connect())
    }
}

// MARK: - UDP

private func connectUDP(
    _ socket: Socket, _ source: Source, _ destination: Destination, _ patience: Patience
) throws(ConnectError) -> Technique {
    let remote = destination.endpoint
    guard !remote.address.isMulticast else { return try connectPlain(socket, source, destination) }
    func failure(_ error: Errno) -> ConnectError {
        ConnectError(
            .init(error.number, isFromBind: false), error.number, socket.tuple(to: remote))
    }
    let namespace: NamespaceIdentity
    let cookie: UInt64
    do throws(Errno) {
        namespace = try NamespaceIdentity.of(socket.raw)
        cookie = try SocketOption.cookie.get(socket.raw)
    } catch { throw failure(error) }
    let wish = Wish(
        socket: socket, source: source, destination: destination, patience: patience,
        namespace: namespace, cookie: cookie)
    do throws(ViewError) {
        return try wish.connect()
    } catch {
        switch error {
        case .connect(let error): throw error
        case .elsewhere: return try wish.connectElsewhere()
        case .unavailable(let error): throw failure(error)
        }
    }
}

/// Multicast: any number of sockets may have the tuple, and shall.
private func connectPlain(_ socket: Socket, _ source: Source, _ destination: Destination)
    throws(ConnectError) -> Technique
{
    func check(_ error: Int32, isFromBind: Bool) throws(ConnectError) {
        guard error != 0 else { return }
        throw ConnectError(
            .init(error, isFromBind: isFromBind), error, socket.tuple(to: destination.endpoint))
    }
    if socket.local.port == 0 && (source.address != nil || source.port != nil) {
        let name = Endpoint(source.address ?? .unspecified, source.port ?? 0)
        try check(socket.bindName(name, scope: destination.scope), isFromBind: true)
    }
    try check(socket.connectName(destination), isFromBind: false)
    return .plain
}

/// A UDP connection as it was asked for; the source address may still be open.
private struct Wish {
    let socket: Socket
    let source: Source
    let destination: Destination
    let patience: Patience
    let namespace: NamespaceIdentity
    let cookie: UInt64

    /// In the calling thread's network namespace, or with what is known of the socket's.
    func connect() throws(ViewError) -> Technique {
        try NamespaceView.with(namespace) { view throws(ViewError) in
            if let address = ownAddress { return try view.connect(call(from: address)) }
            let question = RouteQuestion(
                socket, destination, port: bound != 0 ? bound : source.port ?? 0)
            // A port that was named cannot be taken back, when the address turns out to be wrong.
            guard !question.isBeyondNetlink, source.port == nil, view.canLend,
                let recent = view.recentSource(for: question)
            else { return try view.connect(call(from: sourceByRoute(question, &view))) }
            do throws(ViewError) {
                return try view.connect(call(from: recent))
            } catch {
                // Perhaps for the routing table having changed.
                let source = try sourceByRoute(question, &view)
                guard source != recent else { throw error }
                return try view.connect(call(from: source))
            }
        }
    }

    private func call(from local: IPAddress) -> UDPCall {
        UDPCall(
            socket: socket, local: local, destination: destination, cookie: cookie,
            port: bound != 0 ? bound : source.port, patience: patience)
    }

    private var bound: UInt16 { socket.local.port }

    /// What the caller said, or the socket is bound to.
    private var ownAddress: IPAddress? {
        if let address = source.address, !address.isAny { return address }
        return socket.local.address.isAny ? nil : socket.local.address
    }

    /// What connect() would take.
    private func sourceByRoute(_ question: RouteQuestion, _ view: inout NamespaceView)
        throws(ViewError) -> IPAddress
    {
        do throws(Errno) {
            if question.isBeyondNetlink, let source = try socket.sourceByTrial(destination) {
                return source
            }
            return try view.askForSource(question) ?? .unspecified
        } catch {
            if error.number == EXDEV { throw .elsewhere }
            // Without netlink the port will be one of our own, and any address does.
            guard view.diag != nil else { return .unspecified }
            let reason = ConnectError.Reason(error.number, isFromBind: false)
            throw .connect(call(from: .unspecified).error(reason, error.number))
        }
    }

    /// On a thread of its own, in the socket's network namespace. Where that is not permitted the
    /// socket gets a port of its own.
    func connectElsewhere() throws(ConnectError) -> Technique {
        var errand = Errand(wish: self)
        let result = withUnsafeMutablePointer(to: &errand) { errand in
            linux_run_in_namespace_of(
                socket.raw, { $0!.assumingMemoryBound(to: Errand.self).pointee.run() }, errand)
        }
        guard result == 0, let technique = errand.technique else {
            if let error = errand.error { throw error }
            return try call(from: source.address ?? .unspecified).connectExclusively()
        }
        return technique
    }

    private struct Errand {
        let wish: Wish
        var technique: Technique?
        var error: ConnectError?

        mutating func run() {
            do throws(ViewError) {
                technique = try wish.connect()
            } catch {
                if case .connect(let error) = error { self.error = error }
            }
        }
    }
}
