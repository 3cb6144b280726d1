// SPDX-License-Identifier: Apache-2.0
// A technique for outgoing connections: a name, the calls in words, the calls themselves.

import Connectx
import TupleguardSocketDiag
import TupleguardSockets

/// One connection that is wanted.
struct Wish: Sendable {
    /// Port 0: left to the kernel, or to connectx.
    var source: Endpoint
    var destination: Endpoint
}

/// What a thread needs to carry techniques out.
struct Kit: ~Copyable {
    var diag: SocketDiag
    /// Where the threads of a measurement wait for one another between bind() and connect().
    var rendezvous: (() -> Void)?

    init() throws(Errno) {
        diag = try SocketDiag()
    }

    /// Waits for the other threads, at most once for each `rendezvous`.
    mutating func meet() {
        rendezvous.take()?()
    }
}

/// What has to be on the cgroup of the lab's process for a technique to work. It takes BPF.
enum RequiredHook: String, Sendable, CaseIterable {
    case lookUp
    case `guard`
    /// The guard, choosing the port of every socket that connects without one.
    case portDiscovery
}

/// A way to open a connection.
struct Technique: Sendable {
    /// Who chooses the source port.
    enum PortChoice {
        case kernel
        case caller
        /// The technique does, unless the caller names one.
        case either
    }

    typealias Open = @Sendable (inout Kit, Wish) throws(CallFailure) -> OwnedDescriptor

    let name: String
    let transport: Transport
    /// In the order in which they are made.
    let calls: String
    let portChoice: PortChoice
    var hook: RequiredHook?
    /// A setting of the network namespace that it goes with, and its value.
    var sysctl: (name: String, value: String)?
    /// Other sockets that have the contended source address and port, each with a destination of
    /// its own.
    var others = 0
    let open: Open
}

extension Technique {
    /// TCP first; the plain ones before the clever.
    static let all = tcp + udpPlain + udpLocks + udpSafe
}
