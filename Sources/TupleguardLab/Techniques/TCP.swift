// SPDX-License-Identifier: Apache-2.0
// TCP: the kernel refuses a duplicate 4-tuple, so what matters is when the port is chosen.

import Connectx
import Glibc
import TupleguardSockets

extension Technique {
    /// How often a socket is tried that got its port from bind() before the destination was known.
    static let retryAttempts = 8

    static let tcp = [
        Technique(
            name: "tcp-connect", transport: .tcp, calls: "connect()", portChoice: .kernel
        ) { _, wish throws(CallFailure) in
            let socket = try NewSocket(.tcp)
            try socket.connect(wish.destination)
            return socket.take()
        },
        Technique(
            name: "tcp-bind", transport: .tcp, calls: "bind(ip, 0), connect()",
            portChoice: .kernel
        ) { _, wish throws(CallFailure) in
            let socket = try NewSocket(.tcp)
            try socket.bind(wish.source)
            try socket.connect(wish.destination)
            return socket.take()
        },
        Technique(
            name: "tcp-no-port", transport: .tcp,
            calls: "IP_BIND_ADDRESS_NO_PORT, bind(ip, 0), connect()", portChoice: .kernel
        ) { _, wish throws(CallFailure) in
            let socket = try NewSocket(.tcp)
            try socket.set(.bindAddressNoPort, 1)
            try socket.bind(wish.source)
            try socket.connect(wish.destination)
            return socket.take()
        },
        Technique(
            name: "tcp-reuse-bind", transport: .tcp,
            calls: "SO_REUSEADDR, bind(ip, port), connect()", portChoice: .caller,
            open: shared(.tcp)
        ),
        Technique(
            name: "tcp-retry", transport: .tcp,
            calls: "SO_REUSEADDR, bind(ip, 0), connect(); up to \(retryAttempts) times",
            portChoice: .kernel, open: retrying),
        Technique(
            name: "tcp-retry-autobind", transport: .tcp,
            calls: "tcp-retry with net.ipv4.ip_autobind_reuse = 1", portChoice: .kernel,
            sysctl: autobindReuse, open: retrying),
        Technique(
            name: "tcp-connectx", transport: .tcp, calls: "connectx()", portChoice: .kernel,
            open: connectx(.tcp)),
    ]

    /// SO_REUSEADDR, bind, connect.
    static func shared(_ transport: Transport) -> Open {
        { kit, wish throws(CallFailure) in
            let socket = try NewSocket(transport)
            try socket.share(true)
            try socket.bind(wish.source)
            kit.meet()
            try socket.connect(wish.destination)
            return socket.take()
        }
    }

    /// Without it bind() to port 0 takes no port that is bound, shared or not
    /// (inet_csk_find_open_port).
    static let autobindReuse = (name: "net/ipv4/ip_autobind_reuse", value: "1")

    private static let retrying: Open = { kit, wish throws(CallFailure) in
        for _ in 1..<retryAttempts {
            if let socket = try attempt(&kit, wish) { return socket }
        }
        return try shared(.tcp)(&kit, wish)
    }

    /// One attempt of `tcp-retry`; nil when the port that bind() chose is taken for the
    /// destination.
    static func attempt(_ kit: inout Kit, _ wish: Wish) throws(CallFailure) -> OwnedDescriptor? {
        do throws(CallFailure) {
            return try shared(.tcp)(&kit, wish)
        } catch {
            guard error == CallFailure(.connect, EADDRNOTAVAIL) else { throw error }
            return nil
        }
    }

    /// The library.
    static func connectx(_ transport: Transport) -> Open {
        { _, wish throws(CallFailure) in
            do throws(ConnectError) {
                let connection = try Connectx.connectBlocking(
                    transport, to: wish.destination, from: Source(wish.source))
                return OwnedDescriptor(taking: connection.takeDescriptor())
            } catch {
                throw CallFailure(.connectx, error.errno)
            }
        }
    }
}
