// SPDX-License-Identifier: Apache-2.0
// Unix sockets that tests talk to the agent with.

import Glibc
import TupleguardSockets

/// A Unix socket bound to `path`; "@" first stands for an abstract one. Whatever
/// blocks on it fails after ten seconds, so that a fault is a failure, not a hang.
func makeUnixSocket(_ type: __socket_type, boundTo path: String) throws -> OwnedDescriptor {
    let socket = try OwnedDescriptor {
        Glibc.socket(AF_UNIX, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
    }
    let raw = socket.raw
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    try Errno.check {
        setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(path.utf8)
    if path.hasPrefix("@") { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    try Errno.check {
        withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(raw, $0, length) }
        }
    }
    return socket
}
