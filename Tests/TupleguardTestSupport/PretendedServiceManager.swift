// SPDX-License-Identifier: Apache-2.0
// The socket on which systemd would hear from a service (sd_notify(3)).

import Glibc
import Synchronization
import TupleguardSockets

/// Hears what a service says to its service manager.
package final class PretendedServiceManager: Sendable {
    private static let next = Atomic<Int>(0)

    private let socket: OwnedDescriptor
    private let heard = Mutex<[String]>([])
    /// For NOTIFY_SOCKET.
    package let path: String

    package init() throws {
        let number = Self.next.add(1, ordering: .relaxed).newValue
        path = "/tmp/tupleguard-notify-\(getpid())-\(number).sock"
        unlink(path)
        let raw = try Errno.check {
            Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        socket = OwnedDescriptor(taking: raw)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        try Errno.check {
            withUnsafePointer(to: &name) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
        }
    }

    deinit { unlink(path) }

    /// All that was said until now.
    package var messages: [String] {
        let source = TestSocket(descriptor: socket.raw, family: AF_UNIX)
        return heard.withLock { heard in
            while let message = source.receive(waiting: 0) { heard.append(message) }
            return heard
        }
    }
}
