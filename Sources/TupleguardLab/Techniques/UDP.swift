// SPDX-License-Identifier: Apache-2.0
// UDP: ports of one's own, ports that are shared on trust, and ports that are shared safely.

import Connectx
import Glibc
import TupleguardSockets

extension Technique {
    static let udpPlain = [
        Technique(
            name: "udp-connect", transport: .udp, calls: "connect()", portChoice: .kernel,
            open: plain),
        Technique(
            name: "udp-reuse", transport: .udp, calls: "SO_REUSEADDR, connect()",
            portChoice: .kernel
        ) { _, wish throws(CallFailure) in
            let socket = try NewSocket(.udp)
            try socket.share(true)
            try socket.connect(wish.destination)
            return socket.take()
        },
        Technique(
            name: "udp-reuse-bind", transport: .udp,
            calls: "SO_REUSEADDR, bind(ip, port), connect()", portChoice: .caller,
            open: shared(.udp)),
        Technique(
            name: "udp-look-up", transport: .udp,
            calls: "SO_REUSEADDR, bind(ip, port), connect(); a BPF hook looks the tuple up",
            portChoice: .caller, hook: .lookUp, open: shared(.udp)),
    ]

    static let udpLocks = [
        Technique(
            name: "udp-lock", transport: .udp,
            calls: "SO_REUSEADDR as a lock: bind, look-up, connect; 10 others on ip:port",
            portChoice: .caller, others: few, open: published),
        Technique(
            name: "udp-lock-crowded", transport: .udp,
            calls: "SO_REUSEADDR as a lock: bind, look-up, connect; 1,000 others on ip:port",
            portChoice: .caller, others: many, open: published),
        Technique(
            name: "udp-barrier", transport: .udp,
            calls: "the lock with the bind barrier; 10 others on ip:port",
            portChoice: .caller, others: few, open: barred),
        Technique(
            name: "udp-barrier-crowded", transport: .udp,
            calls: "the lock with the bind barrier; 1,000 others on ip:port",
            portChoice: .caller, others: many, open: barred),
    ]

    static let udpSafe = [
        Technique(
            name: "udp-connectx", transport: .udp, calls: "connectx()", portChoice: .either,
            open: connectx(.udp)),
        Technique(
            name: "udp-guard", transport: .udp,
            calls: "SO_REUSEADDR, bind(ip, port), connect(); under the guard",
            portChoice: .caller, hook: .guard, open: shared(.udp)),
        Technique(
            name: "udp-guard-discover", transport: .udp,
            calls: "connect(); under the guard, with --discover all", portChoice: .kernel,
            hook: .portDiscovery, open: plain),
    ]

    /// connect()
    static let plain: Open = { _, wish throws(CallFailure) in
        let socket = try NewSocket(.udp)
        try socket.connect(wish.destination)
        return socket.take()
    }

    private static let few = 10
    private static let many = 1000

    /// The lock as it was published: while SO_REUSEADDR is off nobody else can bind to the port,
    /// and the kernel is asked who would receive.
    private static let published: Open = { kit, wish throws(CallFailure) in
        let socket = try boundAlone(wish)
        try expectReceiver(&kit, wish, try socket.cookie())
        return try connected(socket, wish)
    }

    /// The same after the bind barrier: a second socket that tries to bind to the port comes
    /// through the kernel's lock on it (udp_lib_get_port) behind whoever had passed the check
    /// before.
    static let barred: Open = { kit, wish throws(CallFailure) in
        let socket = try boundAlone(wish)
        let barrier = try NewSocket(.udp)
        try barrier.share(true)
        guard !succeeds(barrier, wish.source) else { throw CallFailure(.bind, EADDRINUSE) }
        try expectReceiver(&kit, wish, try socket.cookie())
        return try connected(socket, wish)
    }

    private static func boundAlone(_ wish: Wish) throws(CallFailure) -> NewSocket {
        let socket = try NewSocket(.udp)
        try socket.share(true)
        try socket.bind(wish.source)
        try socket.share(false)
        return socket
    }

    private static func succeeds(_ barrier: borrowing NewSocket, _ name: Endpoint) -> Bool {
        do throws(CallFailure) {
            try barrier.bind(name)
            return true
        } catch {
            return false
        }
    }

    /// Fails with EADDRINUSE when another socket than the one with this cookie would receive.
    private static func expectReceiver(_ kit: inout Kit, _ wish: Wish, _ cookie: UInt64)
        throws(CallFailure)
    {
        let tuple = FourTuple(local: wish.source, remote: wish.destination)
        do throws(Errno) {
            guard try kit.diag.receiver(of: tuple)?.cookie == cookie else {
                throw Errno(EADDRINUSE)
            }
        } catch {
            throw CallFailure(.lookUp, error.number)
        }
    }

    private static func connected(_ socket: consuming NewSocket, _ wish: Wish) throws(CallFailure)
        -> OwnedDescriptor
    {
        try socket.connect(wish.destination)
        try socket.share(true)
        return socket.take()
    }
}
