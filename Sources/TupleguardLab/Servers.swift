// SPDX-License-Identifier: Apache-2.0
// TCP servers that take connections and do nothing with them.

import Connectx
import Glibc
import TupleguardSockets

/// Listening sockets on all IPv4 addresses, one for each port.
struct Servers: ~Copyable {
    private var listeners: [Int32] = []

    init(ports: [UInt16]) throws(Errno) {
        for port in ports {
            let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
            let listener = try OwnedDescriptor { socket(AF_INET, Int32(type), 0) }
            let raw = listener.raw
            let name = Endpoint(IPAddress(v4: 0, 0, 0, 0), port)
            try Errno.check { name.withSocketAddress(family: AF_INET) { bind(raw, $0, $1) } }
            try Errno.check { listen(raw, 4096) }
            listeners.append(listener.release())
        }
    }

    /// Takes the connections that wait, and closes them.
    func drain() {
        for listener in listeners {
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 { break }
                close(connection)
            }
        }
    }

    deinit {
        for listener in listeners { close(listener) }
    }
}
