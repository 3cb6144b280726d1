// SPDX-License-Identifier: Apache-2.0
// The system calls that techniques are made of, each failing with its own name.

import CTupleguardLinux
import Connectx
import Glibc
import TupleguardSockets

/// A call that did not succeed.
struct CallFailure: Error, Hashable, CustomStringConvertible {
    enum Call: String {
        case socket
        case option = "setsockopt"
        case bind
        /// The question over SOCK_DIAG who would receive.
        case lookUp = "look-up"
        case connect
        case connectx
    }

    let call: Call
    let errno: Errno

    init(_ call: Call, _ errno: Int32) {
        self.call = call
        self.errno = Errno(errno)
    }

    /// "EADDRINUSE (bind)"
    var description: String { "\(errno.name) (\(call.rawValue))" }
}

/// A new IPv4 socket, until it is connected and handed over.
struct NewSocket: ~Copyable {
    private let descriptor: OwnedDescriptor

    init(_ transport: Transport) throws(CallFailure) {
        let type = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        do throws(Errno) {
            descriptor = try OwnedDescriptor {
                socket(AF_INET, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
            }
        } catch {
            throw CallFailure(.socket, error.number)
        }
    }

    /// SO_REUSEADDR
    func share(_ isOn: Bool) throws(CallFailure) {
        try set(.reuseAddress, isOn ? 1 : 0)
    }

    func set(_ option: SocketOption<Int32>, _ value: Int32) throws(CallFailure) {
        do throws(Errno) {
            try option.set(descriptor.raw, value)
        } catch {
            throw CallFailure(.option, error.number)
        }
    }

    func bind(_ name: Endpoint) throws(CallFailure) {
        let raw = descriptor.raw
        let result = name.withSocketAddress(family: AF_INET) { Glibc.bind(raw, $0, $1) }
        if result != 0 { throw CallFailure(.bind, Glibc.errno) }
    }

    func connect(_ name: Endpoint) throws(CallFailure) {
        let raw = descriptor.raw
        let result = name.withSocketAddress(family: AF_INET) { Glibc.connect(raw, $0, $1) }
        if result != 0 { throw CallFailure(.connect, Glibc.errno) }
    }

    /// SO_COOKIE
    func cookie() throws(CallFailure) -> UInt64 {
        do throws(Errno) {
            return try SocketOption.cookie.get(descriptor.raw)
        } catch {
            throw CallFailure(.option, error.number)
        }
    }

    consuming func take() -> OwnedDescriptor { descriptor }
}

/// The 4-tuple of a connected socket as the kernel has it; nil when it has none.
func tuple(of socket: Int32) -> FourTuple? {
    guard let local = try? Endpoint({ getsockname(socket, $0, $1) }),
        let remote = try? Endpoint({ getpeername(socket, $0, $1) })
    else { return nil }
    return FourTuple(local: local, remote: remote)
}

/// Connected sockets that are held, and closed together.
struct HeldSockets: ~Copyable {
    private(set) var all: [Int32] = []

    mutating func hold(_ socket: consuming OwnedDescriptor) {
        all.append(socket.release())
    }

    var tuples: [FourTuple] { all.compactMap(tuple(of:)) }

    /// As programs do: what TCP has to remember it does.
    mutating func closeNormally() {
        for socket in all { close(socket) }
        all = []
    }

    deinit {
        for socket in all { reset(socket) }
    }
}

/// Closes a socket so that TCP keeps nothing of it: no TIME_WAIT (SO_LINGER of zero).
func reset(_ socket: Int32) {
    var abort = linger(l_onoff: 1, l_linger: 0)
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &abort, socklen_t(MemoryLayout<linger>.size))
    close(socket)
}
