// SPDX-License-Identifier: Apache-2.0
// Moves events from the ring buffer to the log and to those who follow.

import Glibc
import ServiceLifecycle
import Synchronization
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Reads the ring buffer on a thread of its own, which sleeps while nothing happens.
final class EventPump: Service, Sendable {
    private let state: GuardState
    private let destination: AgentLog
    private let cgroups: CgroupNames
    private let followers: Followers
    private let pods: PodRefusals
    /// A pipe, written to when the thread should look up.
    private let wakeReader: OwnedDescriptor
    private let wakeWriter: OwnedDescriptor
    private let isStopping = Atomic<Bool>(false)
    /// How often the thread was asked whether it still works, and how often of that it was heard.
    private let calls = Atomic<Int>(0)
    private let answers = Atomic<Int>(0)

    /// - Parameter cgroups: comes to know the names of all who have a part in a conflict while
    ///   they are there.
    init(
        state: GuardState, log: AgentLog, cgroups: CgroupNames, followers: Followers,
        pods: PodRefusals
    ) throws {
        self.state = state
        destination = log
        self.cgroups = cgroups
        self.followers = followers
        self.pods = pods
        var ends: [Int32] = [-1, -1]
        try Errno.check { pipe(&ends) }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            // Whoever wakes a thread that hangs is not held up by it.
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        wakeReader = OwnedDescriptor(taking: ends[0])
        wakeWriter = OwnedDescriptor(taking: ends[1])
    }

    /// Runs until shutdown; what is in the buffer then is still handled.
    func run() async throws {
        try await runOnThread {
            self.pump()
        } stop: {
            self.isStopping.store(true, ordering: .sequentiallyConsistent)
            self.lookAgain()
        }
    }

    /// Makes the thread open the ring buffer again, if another one is pinned now.
    func lookAgain() {
        _ = write(wakeWriter.raw, "!", 1)
    }

    /// Whether the thread has answered the call before this one, which it is to answer until the
    /// next. One that does no longer move events is found out so.
    func answersCalls() -> Bool {
        let hasAnswered =
            answers.load(ordering: .sequentiallyConsistent)
            == calls.load(ordering: .sequentiallyConsistent)
        calls.add(1, ordering: .sequentiallyConsistent)
        lookAgain()
        return hasAnswered
    }

    private func takeWake() {
        let asked = calls.load(ordering: .sequentiallyConsistent)
        var bytes = [UInt8](repeating: 0, count: 64)
        _ = read(wakeReader.raw, &bytes, bytes.count)
        answers.store(asked, ordering: .sequentiallyConsistent)
    }

    private func pump() {
        var log = ConflictLog(to: destination, cgroups: cgroups)
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            do {
                let reader = try EventReader(state) { [followers, cgroups, pods] event in
                    guard let event else { return }
                    let named = event.namingCgroups(cgroups.path)
                    if named.action == .refused, let pod = named.claimant?.pod { pods.add(pod) }
                    if let line = log.log(event, isFollowed: !followers.isEmpty) {
                        followers.send(line)
                    }
                }
                drain(reader, untilFlush: { log.hasMore }, flush: { log.flush() })
            } catch {
                // No guard is attached any more; the reconciler wakes us when there is one.
                waitForWake(untilFlush: log.hasMore)
                log.flush()
            }
        }
        log.flush(isLast: true)
    }

    private func waitForWake(untilFlush: Bool) {
        var ready = pollfd(fd: wakeReader.raw, events: Int16(POLLIN), revents: 0)
        poll(&ready, 1, untilFlush ? 1000 : -1)
        takeWake()
    }

    /// Until there is another buffer, or the end.
    private func drain(
        _ reader: borrowing EventReader, untilFlush: () -> Bool, flush: () -> Void
    ) {
        while true {
            var ready = [
                pollfd(fd: reader.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wakeReader.raw, events: Int16(POLLIN), revents: 0),
            ]
            // What was not said at once is due now and then.
            if poll(&ready, 2, untilFlush() ? 1000 : -1) == 0 { flush() }
            reader.poll(milliseconds: 0)
            guard ready[1].revents != 0 else { continue }
            takeWake()
            if isStopping.load(ordering: .sequentiallyConsistent) { return }
            if state.eventsMapID != reader.mapID { return }
        }
    }
}
