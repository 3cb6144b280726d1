// SPDX-License-Identifier: Apache-2.0
// Unix sockets that tests talk to the agent with.

import Dispatch
import Glibc
import Synchronization
import TupleguardLinux
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

/// Receives all datagrams that come to a path, on a thread of its own.
final class DatagramCollector: Sendable {
    private let socket: OwnedDescriptor
    private let received = Mutex<[String]>([])
    private let hasEnded = DispatchSemaphore(value: 0)

    init(boundTo path: String) throws {
        socket = try makeUnixSocket(SOCK_DGRAM, boundTo: path)
        let raw = socket.raw
        _ = try Thread { self.collect(raw) }
    }

    private func collect(_ raw: Int32) {
        var buffer = [UInt8](repeating: 0, count: 262_144)
        while true {
            let count = recv(raw, &buffer, buffer.count, 0)
            if count <= 0 { break }
            received.withLock {
                $0.append(String(decoding: buffer[..<count], as: UTF8.self))
            }
        }
        hasEnded.signal()
    }

    /// All that came, now that no more will.
    func end() -> [String] {
        shutdown(socket.raw, Int32(SHUT_RD))
        hasEnded.wait()
        return received.withLock { $0 }
    }
}
