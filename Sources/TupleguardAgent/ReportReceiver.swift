// SPDX-License-Identifier: Apache-2.0
// Hears what unprivileged programs report: datagrams of connectx, at most so many.

import CTupleguardLinux
import ConnectxCore
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// The datagram socket that any process may write to.
///
/// What waits in it is bounded by the kernel (`net.unix.max_dgram_qlen` datagrams, each charged to
/// its sender), and so is what is taken out at a time.
struct ReportSocket: ~Copyable, Sendable {
    enum Received {
        case report(Notice, Sender)
        case invalid
        case nothing
    }

    private let descriptor: OwnedDescriptor
    let path: String

    /// Makes the socket, in place of what an agent that was killed left under its name.
    init(path: String) throws(GuardError) {
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
        // A byte more than a report has, so that a longer one does not look like one.
        withUnsafeTemporaryAllocation(byteCount: Notice.size + 1, alignment: 8) { buffer in
            var sender = linux_sender()
            do throws(Errno) {
                let count = try Errno.check {
                    linux_receive_from(descriptor.raw, buffer.baseAddress, buffer.count, &sender)
                }
                guard count <= buffer.count,
                    let report = Notice(
                        UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
                else { return .invalid }
                return .report(report, Sender(pid: sender.pid, uid: sender.uid))
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

    /// Ends all waiting, and every sender's hope. (unix(7): a socket that is shut down is readable.)
    func stop() {
        shutdown(descriptor.raw, Int32(SHUT_RD))
    }
}

/// Takes reports on a thread of its own, which sleeps while none come.
final class ReportReceiver: Service, Sendable {
    private let socket: ReportSocket
    private let conflicts: UserspaceConflicts
    private let followers: Followers
    private let logger: Logger
    private let format: LogFormat
    private let isStopping = Atomic<Bool>(false)

    /// Reports are taken from now on, and heard when it runs.
    init(
        path: String, conflicts: UserspaceConflicts, followers: Followers, logger: Logger,
        format: LogFormat
    ) throws(GuardError) {
        socket = try ReportSocket(path: path)
        self.conflicts = conflicts
        self.followers = followers
        self.logger = logger
        self.format = format
    }

    /// Runs until shutdown. The socket's name is gone then.
    func run() async throws {
        // Still under the agents' lock: afterwards it may be the next one's.
        defer { unlink(socket.path) }
        try await runOnThread {
            self.receive()
        } stop: {
            isStopping.store(true, ordering: .sequentiallyConsistent)
            socket.stop()
        }
    }

    private func receive() {
        var listener = ReportListener(
            conflicts: conflicts, followers: followers,
            // Of their own: whatever programs report, the kernel's lines keep their room.
            log: ConflictLog(logger: logger, format: format, noun: "userspace reports"))
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            // A second after the last of a flood its count is due.
            if !socket.wait(milliseconds: listener.log.hasMore ? 1000 : -1) { listener.log.flush() }
            drain(to: &listener)
        }
        listener.log.flush()
    }

    private func drain(to listener: inout ReportListener) {
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            switch socket.receive() {
            case .nothing: return
            case .invalid: conflicts.countInvalid()
            case .report(let report, let sender): listener.hear(report, from: sender)
            }
        }
    }
}

/// Hears one report after the other: within the limits it remembers, logs and passes on.
private struct ReportListener {
    let conflicts: UserspaceConflicts
    let followers: Followers
    var log: ConflictLog
    private var limits = ReportLimits()
    private let hierarchy = try? CgroupHierarchy()

    init(conflicts: UserspaceConflicts, followers: Followers, log: ConflictLog) {
        self.conflicts = conflicts
        self.followers = followers
        self.log = log
    }

    mutating func hear(_ report: Notice, from sender: Sender) {
        guard limits.admit(sender, now: KernelClock.monotonic) else {
            conflicts.countLimited()
            return
        }
        let event = conflicts.record(
            report, from: SenderProcess(reading: sender, in: hierarchy),
            time: KernelClock.realTime)
        if let line = log.log(event, isFollowed: !followers.isEmpty) { followers.send(line) }
    }
}
