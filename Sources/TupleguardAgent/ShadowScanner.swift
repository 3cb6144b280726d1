// SPDX-License-Identifier: Apache-2.0
// Looks for overshadowed sockets again and again: the agent without BPF.

import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords

/// Scans on a thread of its own, which sleeps in between. One scan costs about a microsecond for
/// each UDP socket, and keeps eight bytes of it while it lasts.
final class ShadowScanner: Service, Sendable {
    /// Between the beginnings of two scans.
    private let interval: Duration
    private let format: LogFormat
    private let scans: Scans
    private let followers: Followers
    private let logger: Logger
    private let isStopping = Mutex(false)
    /// Signalled to end a sleep.
    private let wake = DispatchSemaphore(value: 0)

    init(
        every interval: Duration, scans: Scans, followers: Followers, logger: Logger,
        format: LogFormat
    ) {
        self.interval = interval
        self.format = format
        self.scans = scans
        self.followers = followers
        self.logger = logger
    }

    /// Runs until shutdown.
    func run() async throws {
        try await runOnThread {
            self.scanUntilStopped()
        } stop: {
            isStopping.withLock { $0 = true }
            wake.signal()
        }
    }

    private func scanUntilStopped() {
        var log = ConflictLog(logger: logger, format: format)
        var failure: String?
        while !isStopping.withLock({ $0 }) {
            let begun = KernelClock.monotonic
            do {
                let unseen = try scan(&log)
                report(unseen, &failure)
            } catch {
                report("\(error)", &failure)
            }
            log.flush()
            sleep(since: begun)
        }
    }

    /// - Returns: what could not be seen; nil when all was.
    private func scan(_ log: inout ConflictLog) throws -> String? {
        let survey = try Survey(.all, .shadows)
        let time = Timestamp.now
        let cgroups = CgroupNames()
        let events = scans.update(survey.shadows, time: time) { shadows in
            let owners = SocketOwners(of: shadows.flatMap(\.members).map(\.inode))
            return shadows.map { ScanEvent($0, time: time, owners: owners, cgroups: cgroups) }
        }
        for event in events {
            if let line = log.log(event, isFollowed: !followers.isEmpty) { followers.send(line) }
        }
        return survey.unseenNamespaces.map { "not seen: \($0)" }
    }

    /// Says it once, and again when it is another.
    private func report(_ failure: String?, _ known: inout String?) {
        if let failure, failure != known { logger.warning("\(failure)") }
        known = failure
    }

    private func sleep(since begun: UInt64) {
        let left = Int(interval / .nanoseconds(1)) - Int(KernelClock.monotonic - begun)
        _ = wake.wait(timeout: .now() + .nanoseconds(max(0, left)))
    }
}
