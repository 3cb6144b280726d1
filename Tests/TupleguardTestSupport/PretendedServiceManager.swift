// SPDX-License-Identifier: Apache-2.0
// The socket on which systemd would hear from a service (sd_notify(3)).

import Foundation
import Glibc
import Synchronization
import TupleguardSockets

/// Hears what a service says to its service manager.
package final class PretendedServiceManager: Sendable {
    private static let next = Atomic<Int>(0)

    private let mailbox: Mailbox
    /// For NOTIFY_SOCKET.
    package let path: String

    package init() throws {
        let number = Self.next.add(1, ordering: .relaxed).newValue
        path = "/tmp/tupleguard-notify-\(getpid())-\(number).sock"
        unlink(path)
        let raw = try Errno.check {
            Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let mailbox = Mailbox(OwnedDescriptor(taking: raw))
        self.mailbox = mailbox
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
        Thread.detachNewThread { mailbox.empty() }
    }

    deinit {
        mailbox.isClosed.store(true, ordering: .relaxed)
        unlink(path)
    }

    /// All that was said until now.
    package var messages: [String] { mailbox.takeAll() }
}

/// What was heard, taken from the socket at once: it holds ten messages (net.unix.max_dgram_qlen),
/// and a service does not wait to be heard.
private final class Mailbox: Sendable {
    let isClosed = Atomic<Bool>(false)
    private let socket: OwnedDescriptor
    private let heard = Mutex<[String]>([])

    init(_ socket: consuming OwnedDescriptor) {
        self.socket = socket
    }

    func takeAll() -> [String] {
        let source = TestSocket(descriptor: socket.raw, family: AF_UNIX)
        return heard.withLock { heard in
            while let message = source.receive(waiting: 0) { heard.append(message) }
            return heard
        }
    }

    /// Until it is closed.
    func empty() {
        while !isClosed.load(ordering: .relaxed) {
            var ready = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            if poll(&ready, 1, 100) == 1 { _ = takeAll() }
        }
    }
}
