// SPDX-License-Identifier: Apache-2.0
// The socket that takes notices: datagrams of connectx, from whoever cares to send some.

import CTupleguardLinux
import ConnectxCore
import Glibc
import TupleguardAgentClient
import TupleguardSockets

/// The datagram socket that any process may write to.
///
/// What waits in it is bounded by the kernel (`net.unix.max_dgram_qlen` datagrams, each charged to
/// its sender), and so is what is taken out at a time.
struct NoticeSocket: ~Copyable, Sendable {
    enum Received {
        case notice(Notice, Sender)
        case invalid
        case nothing
    }

    private let descriptor: OwnedDescriptor
    let path: String

    /// Makes the socket, in place of what an agent that was killed left under its name.
    init(path: String) throws(AgentError) {
        do throws(Errno) {
            descriptor = try Self.bound(to: path)
        } catch {
            throw .failed(what: "listen on \(path)", errno: error, detail: "")
        }
        self.path = path
    }

    private static func bound(to path: String) throws(Errno) -> OwnedDescriptor {
        guard let name = UnixSocketName(path) else { throw Errno(ENAMETOOLONG) }
        let descriptor = try OwnedDescriptor {
            socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let raw = descriptor.raw
        // Before there is a name to send to, so that no datagram comes without credentials.
        var on: Int32 = 1
        try Errno.check {
            setsockopt(raw, SOL_SOCKET, SO_PASSCRED, &on, socklen_t(MemoryLayout<Int32>.size))
        }
        unlink(path)
        try Errno.check { name.withSocketAddress { bind(raw, $0, $1) } }
        // Its mode is the umask's until now; who sends must be allowed to write.
        try Errno.check { chmod(path, 0o666) }
        return descriptor
    }

    /// Takes the next datagram, without waiting.
    func receive() -> Received {
        // A byte more than a notice has, so that a longer one does not look like one.
        withUnsafeTemporaryAllocation(byteCount: Notice.size + 1, alignment: 8) { buffer in
            var sender = linux_sender()
            do throws(Errno) {
                let count = try Errno.check {
                    linux_receive_from(descriptor.raw, buffer.baseAddress, buffer.count, &sender)
                }
                guard count <= buffer.count,
                    let notice = Notice(
                        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
                else { return .invalid }
                return .notice(
                    notice, Sender(pid: Int32(bitPattern: sender.pid), uid: sender.uid))
            } catch {
                return error.number == EBADMSG ? .invalid : .nothing
            }
        }
    }

    /// Waits until a datagram is there or `stop` was called; false when the time is over.
    func wait(milliseconds: Int32) -> Bool {
        var ready = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
        return poll(&ready, 1, milliseconds) != 0
    }

    /// Ends all waiting; what is sent from now on is refused. (unix(7): a socket that is shut
    /// down is readable.)
    func stop() {
        shutdown(descriptor.raw, Int32(SHUT_RD))
    }
}
