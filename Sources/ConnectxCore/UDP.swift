// SPDX-License-Identifier: Apache-2.0
// Connecting a UDP socket whose source port is shared, so that no two sockets
// come to hold one 4-tuple.

import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// One call for a UDP socket; the source address is settled.
struct UDPCall {
    var socket: Socket
    let local: IPAddress
    let destination: Destination
    /// SO_COOKIE of the socket.
    let cookie: UInt64
    /// The port that the caller named; nil when it is ours to choose.
    let port: UInt16?
    let patience: Patience

    /// The device that the socket is or will be bound to: a link-local address binds it
    /// (__inet6_bind, __ip6_datagram_connect).
    var device: UInt32 { socket.interface != 0 ? socket.interface : destination.scope }

    /// Whether the caller may be kept waiting. Asked only where there is something to wait for.
    var mayWait: Bool {
        switch patience {
        case .waits: true
        case .failsAtOnce: false
        case .asSocket: linux_is_blocking(socket.raw)
        }
    }

    var purpose: PortPurpose {
        PortPurpose(local: local, interface: device, remote: destination.endpoint)
    }

    func tuple(_ port: UInt16) -> FourTuple {
        FourTuple(local: Endpoint(local, port), remote: destination.endpoint)
    }

    func error(_ reason: ConnectError.Reason, _ errno: Int32, port: UInt16? = nil) -> ConnectError {
        ConnectError(reason, errno, tuple(port ?? self.port ?? 0))
    }
}

/// How a candidate port fared.
enum Attempt {
    case connected(Technique)
    /// A socket is connected with the tuple.
    case taken
    /// A socket waits on the port unconnected: a server, or somebody who is about to connect.
    case waitedOn
    /// A socket has the port without SO_REUSEADDR: for good, or as a lock that it is about to open.
    case unshared
    /// It looked free, and was another's when we had locked it.
    case lost
    /// It looked free, and connect() was refused as a guard refuses, with this error.
    case refused(Int32)
    /// It would fare no better with another port. `step` tells what failed.
    case failed(Int32, Step)

    enum Step { case look, bind, connect }
}

/// How the socket gets its port.
enum Binding {
    /// The caller had bound it.
    case already
    /// bind to port 0 with IP_LOCAL_PORT_RANGE narrowed to one port: one that the kernel lets go
    /// of again at connect(AF_UNSPEC) (__udp_disconnect: no SOCK_BINDPORT_LOCK).
    case lent
    /// bind to the port: for good.
    case fixed
}

extension NamespaceView {
    /// Connects, or throws and leaves the socket as it was as far as the kernel allows.
    mutating func connect(_ call: UDPCall) throws(ViewError) -> Technique {
        do throws(ConnectError) {
            return try search(call)
        } catch {
            // From a throw-away socket: see there. The caller's is unbound again, or was bound
            // before.
            throw error.errno == EXDEV ? .elsewhere : .connect(error)
        }
    }

    private mutating func search(_ call: UDPCall) throws(ConnectError) -> Technique {
        // Without an address there is no tuple that the kernel could be asked about.
        guard diag != nil, !call.local.isAny else { return try call.connectExclusively() }
        let now = coarseTime()
        ports.refresh(now: now)
        let isGuarded = coverage.covers(now: now, diag: &diag)
        var search = Search(isGuarded: isGuarded)
        do throws(ConnectError) {
            if let port = call.port { return try connectNamed(call, port, &search) }
            return try discover(call, now: now, &search)
        } catch {
            // A socket that stays bound goes on sharing, or it would keep others off the port.
            if !search.isStuck {
                call.socket.restore(hasAddressOnly: search.hasAddressOnly, noPort: search.hadNoPort)
            }
            throw error
        }
    }

    /// To the port that the caller named.
    ///
    /// Somebody who goes to another destination from the same port locks it for some microseconds,
    /// and looks like a server or like one who does not share. So that is tried again, for a while,
    /// if the caller may be kept waiting.
    private mutating func connectNamed(_ call: UDPCall, _ port: UInt16, _ search: inout Search)
        throws(ConnectError) -> Technique
    {
        for round in 1...Search.namedRounds {
            switch attempt(call, port, &search) {
            case .connected(let technique): return technique
            case .taken: throw conflict(call, port, .conflict)
            case .failed(let error, let step): throw failure(call, port, error, step)
            case .refused(let error):
                guard isRefusedByGuard(error) else { throw failure(call, port, error, .connect) }
                throw conflict(call, port, .conflict)
            case .lost where round == Search.namedRounds || search.isStuck:
                throw conflict(call, port, .lostRace)
            case .unshared: scouting = Search.namedRounds
            case .waitedOn, .lost: break
            }
            guard call.mayWait else { throw call.error(.contended, EADDRINUSE) }
            linux_pause(Search.pauseNanoseconds << ((round - 1) / 4))
        }
        throw conflict(call, port, .conflict)
    }

    private mutating func conflict(
        _ call: UDPCall, _ port: UInt16, _ kind: Notice.Kind
    ) -> ConnectError {
        notices.send(kind, .udp, call.tuple(port), now: coarseTime())
        return call.error(.conflict, EADDRINUSE)
    }

    /// Whether it is a guard that refused, and not a filter that lets nobody connect there.
    mutating func isRefusedByGuard(_ error: Int32) -> Bool {
        guard error == EPERM else { return true }
        coverage.forget()
        return coverage.covers(now: coarseTime(), diag: &diag)
    }

    // MARK: - One candidate

    mutating func attempt(_ call: UDPCall, _ port: UInt16, _ search: inout Search)
        -> Attempt
    {
        do throws(Errno) {
            let binding = binding(of: call, port)
            if binding == .lent && scouting > 0 {
                scouting -= 1
                // A failed bind of the `lent` kind walks the whole table (0.8 ms); to a port, 0.5
                // us.
                guard try isShared(call, port) else { return .unshared }
            }
            if binding != .already, let holder = try receiver(call, port),
                holder.cookie != call.cookie
            {
                return holder.isConnected ? .taken : .waitedOn
            }
            let error = try bind(call, port, binding)
            guard error == 0 else { return error == EADDRINUSE ? .unshared : .failed(error, .bind) }
            let outcome: Attempt
            do throws(Errno) {
                outcome = try connectBound(call, port, search)
            } catch {
                outcome = .failed(error.number, .look)
            }
            if case .connected = outcome { return outcome }
            search.hasAddressOnly = binding == .lent
            search.isStuck = binding == .fixed
            guard binding == .lent else { return outcome }
            call.socket.disconnect()
            // It may have got no port at all, which is asked only now: hardly any socket is so.
            if case .lost = outcome, try search.clearNoPort(call.socket) {
                return attempt(call, port, &search)
            }
            return outcome
        } catch {
            return .failed(error.number, .look)
        }
    }

    private mutating func receiver(_ call: UDPCall, _ port: UInt16) throws(Errno) -> SocketRecord? {
        try diag!.receiver(of: call.tuple(port), interface: call.device)
    }

    private func binding(of call: UDPCall, _ port: UInt16) -> Binding {
        if call.socket.local.port != 0 { return .already }
        return canLend && ports.range.contains(port) && !ports.isReserved(port) ? .lent : .fixed
    }

    private mutating func bind(_ call: UDPCall, _ port: UInt16, _ binding: Binding) throws(Errno)
        -> Int32
    {
        try call.socket.prepareToShare()
        if binding == .already { return 0 }
        if binding == .lent {
            do throws(Errno) {
                try SocketOption.localPortRange.set(
                    call.socket.raw, UInt32(port) << 16 | UInt32(port))
                let error = call.socket.bindName(
                    Endpoint(call.local, 0), scope: call.destination.scope)
                try SocketOption.localPortRange.set(call.socket.raw, call.socket.portRange)
                return error
            } catch {
                guard error.number == ENOPROTOOPT else { throw error }
                canLend = false
            }
        }
        return call.socket.bindName(Endpoint(call.local, port), scope: call.destination.scope)
    }

    /// Whether the port can be bound to beside those that have it.
    private mutating func isShared(_ call: UDPCall, _ port: UInt16) throws(Errno) -> Bool {
        try barriers.prepare(for: call, in: namespace)
        return barriers.bind(beside: call, port) != EADDRINUSE
    }

    /// The socket is bound and shares its port: to the destination, if no one else is there.
    private mutating func connectBound(_ call: UDPCall, _ port: UInt16, _ search: Search)
        throws(Errno) -> Attempt
    {
        if search.isGuarded {
            // The guard goes by the cgroup in which a socket was made; ours are, another's may be
            // not.
            guard !call.socket.isNew else { return finish(call, .guarded) }
            guard let own = try receiver(call, port) else { return .lost }
            guard own.cookie == call.cookie else { return own.isConnected ? .taken : .lost }
            if own.cgroup != 0 && own.cgroup == coverage.cgroup { return finish(call, .guarded) }
        }
        return try lock(call, port)
    }

    /// SO_REUSEADDR as a lock, with the bind barrier.
    ///
    /// While it is off nobody else can bind to the address and port. But a bind() that had passed
    /// its check before may still be on its way into the table, and would be missed by the look
    /// that follows: so another socket tries to bind first. It is refused, but it has been
    /// through the kernel's lock on the port after whoever was in there (udp_lib_get_port).
    /// Then the kernel is asked who would receive: if it is we, nobody else holds the tuple, and
    /// nobody can come to hold it until the lock is taken off, when we are connected.
    private mutating func lock(_ call: UDPCall, _ port: UInt16) throws(Errno) -> Attempt {
        try barriers.prepare(for: call, in: namespace)
        try call.socket.share(false)
        let outcome: Result<Attempt, Errno>
        do throws(Errno) {
            outcome = .success(try connectLocked(call, port))
        } catch {
            outcome = .failure(error)
        }
        // On every way out: a port that stays locked keeps everybody off it.
        try call.socket.share(true)
        return try outcome.get()
    }

    private mutating func connectLocked(_ call: UDPCall, _ port: UInt16) throws(Errno) -> Attempt {
        guard barriers.bind(beside: call, port) == EADDRINUSE,
            let receiver = try receiver(call, port), receiver.cookie == call.cookie
        else { return .lost }
        return finish(call, .lock)
    }

    func finish(_ call: UDPCall, _ technique: Technique) -> Attempt {
        let error = call.socket.connectName(call.destination)
        if error == 0 {
            call.socket.restoreReusePort()
            return .connected(technique)
        }
        return isRefusal(error) ? .refused(error) : .failed(error, .connect)
    }

    func failure(_ call: UDPCall, _ port: UInt16, _ error: Int32, _ step: Attempt.Step)
        -> ConnectError
    {
        call.error(ConnectError.Reason(error, isFromBind: step == .bind), error, port: port)
    }
}

extension UDPCall {
    /// Connects from a port of its own: what is not shared cannot be overshadowed.
    func connectExclusively() throws(ConnectError) -> Technique {
        // Who shares the port that it is bound to cannot be found out.
        guard socket.local.port == 0 || !socket.wasShared else {
            throw error(.cannotShare, EADDRINUSE)
        }
        do throws(Errno) {
            try socket.prepareToShare()
            try socket.share(false)
        } catch {
            throw self.error(.badDescriptor, error.number)
        }
        if socket.local.port == 0 && (port != nil || !local.isAny) {
            let error = socket.bindName(Endpoint(local, port ?? 0), scope: destination.scope)
            guard error == 0 else { throw exclusiveFailure(error, isFromBind: true) }
        }
        let error = socket.connectName(destination)
        guard error == 0 else { throw exclusiveFailure(error, isFromBind: false) }
        return .exclusive
    }

    private func exclusiveFailure(_ number: Int32, isFromBind: Bool) -> ConnectError {
        socket.restore(hasAddressOnly: false)
        // connect() without a free port: EAGAIN; bind() to port 0: EADDRINUSE (udp_lib_get_port).
        if port == nil && (number == EAGAIN || isFromBind && number == EADDRINUSE) {
            return error(.exhausted, EAGAIN)
        }
        if number == EADDRINUSE { return error(.cannotShare, EADDRINUSE) }
        return error(ConnectError.Reason(number, isFromBind: isFromBind), number)
    }
}

/// The bounds of one call's search, and what came of it so far.
struct Search {
    let isGuarded: Bool
    var attempts = 0
    var refusals = 0
    /// Candidates that may come free again, or never were anybody's.
    var doubts = 0
    /// Whether the socket has an address, but no port any more.
    var hasAddressOnly = false
    /// Whether it was bound to a port for good.
    var isStuck = false
    /// Whether it had IP_BIND_ADDRESS_NO_PORT set, with which bind() gives no port.
    private(set) var hadNoPort = false

    static let randomProbes = 4
    static let listings = 3
    /// Ports of a list without v4-mapped sockets that turn out busy, before it is made again with
    /// them.
    static let missLimit = 16
    /// Candidates in one call. Each costs a few system calls.
    static let attemptLimit = 4096
    static let refusalLimit = 64
    /// Candidates that are scouted after one was found with a port that is not shared.
    static let scoutingAfterUnshared = 64
    /// How often a named port is tried that others are at: for 10 ms in all, because one who has
    /// it locked may be waiting for a processor.
    static let namedRounds = 32
    /// What a lock takes; it is waited longer with every fourth round.
    static let pauseNanoseconds: Int = 10_000

    /// Takes IP_BIND_ADDRESS_NO_PORT off, and returns whether it was set.
    mutating func clearNoPort(_ socket: Socket) throws(Errno) -> Bool {
        guard !hadNoPort, !socket.isNew, try SocketOption.bindAddressNoPort.get(socket.raw) != 0
        else { return false }
        try SocketOption.bindAddressNoPort.set(socket.raw, 0)
        hadNoPort = true
        return true
    }
}
