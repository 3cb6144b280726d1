// SPDX-License-Identifier: Apache-2.0
// Hears what unprivileged programs give notice of, within limits.

import ConnectxCore
import Glibc
import ServiceLifecycle
import Synchronization
import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords

/// Takes notices on a thread of its own, which sleeps while none come.
final class NoticeReceiver: Service, Sendable {
    private let socket: NoticeSocket
    private let notices: Notices
    private let followers: Followers
    private let log: AgentLog
    private let isStopping = Atomic<Bool>(false)

    /// Notices are taken from now on, and heard when it runs.
    init(
        path: String, notices: Notices, followers: Followers, log: AgentLog
    ) throws(AgentError) {
        socket = try NoticeSocket(path: path)
        self.notices = notices
        self.followers = followers
        self.log = log
    }

    /// Runs until shutdown. The socket's name is gone then.
    func run() async throws {
        // Still under the agents' lock: afterwards it may be the next one's.
        defer { unlink(socket.path) }
        try await runOnThread {
            self.receive()
        } stop: {
            self.isStopping.store(true, ordering: .sequentiallyConsistent)
            self.socket.stop()
        }
    }

    private func receive() {
        var listener = NoticeListener(
            notices: notices, followers: followers,
            // Of their own: whatever programs send, the guard's lines keep their room.
            log: ConflictLog(to: log, noun: "notices of connectx"))
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            // What was not said at once is due now and then.
            if !socket.wait(milliseconds: listener.log.hasMore ? 1000 : -1) { listener.log.flush() }
            drain(to: &listener)
        }
        listener.log.flush(isLast: true)
    }

    private func drain(to listener: inout NoticeListener) {
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            switch socket.receive() {
            case .nothing: return
            case .invalid: notices.countInvalid()
            case .notice(let notice, let sender): listener.hear(notice, from: sender)
            }
        }
    }
}

/// Hears one notice after the other: within the limits it remembers, logs and passes on.
private struct NoticeListener {
    let notices: Notices
    let followers: Followers
    var log: ConflictLog
    private var limits = LayeredLimit<Sender>(.ofNotices, partyLimit: 4096)
    private let hierarchy = try? CgroupHierarchy()

    init(notices: Notices, followers: Followers, log: ConflictLog) {
        self.notices = notices
        self.followers = followers
        self.log = log
    }

    mutating func hear(_ notice: Notice, from sender: Sender) {
        guard limits.admit(sender, ofUser: sender.uid, now: KernelClock.monotonic) else {
            notices.countLimited()
            return
        }
        let event = notices.record(
            notice, from: ProcessIdentity(sender, in: hierarchy), time: .now)
        if let line = log.log(event, isFollowed: !followers.isEmpty) { followers.send(line) }
    }
}
