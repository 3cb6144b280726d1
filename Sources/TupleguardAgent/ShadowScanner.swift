// SPDX-License-Identifier: Apache-2.0
// Looks for overshadowed sockets again and again: the agent without BPF.

import Logging
import ServiceLifecycle
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords

/// Scans on a thread of its own, which sleeps in between. One scan costs about a microsecond for
/// each UDP socket, and keeps eight bytes of it while it lasts.
final class ShadowScanner: Service, Sendable {
    /// Between the beginnings of two scans.
    private let interval: Duration
    private let log: AgentLog
    private let scans: Scans
    private let followers: Followers
    private let logger: Logger
    private let manager: ServiceManager
    private let bell = Bell()

    init(
        every interval: Duration, scans: Scans, followers: Followers, logger: Logger,
        log: AgentLog, manager: ServiceManager
    ) {
        self.interval = interval
        self.log = log
        self.scans = scans
        self.followers = followers
        self.logger = logger
        self.manager = manager
    }

    /// Looks once, and shows nothing of it: who cannot look at all is not to say that he does.
    ///
    /// - Throws: what keeps us from looking at the sockets.
    func begin() throws {
        _ = try Survey(.all, .shadows)
    }

    /// For the log and the service manager.
    var summary: String { "looking every \(interval), without a guard" }

    /// Has the next scan begin at once.
    func reload() { bell.ring(.reload) }

    /// Runs until shutdown.
    func run() async throws {
        try await runOnThread {
            self.scanUntilStopped()
        } stop: {
            self.bell.ring(.stop)
        }
    }

    private func scanUntilStopped() {
        var log = ConflictLog(to: self.log)
        var failure: String?
        repeat {
            let begun = KernelClock.monotonic
            do {
                let unseen = try scan(&log)
                report(unseen, &failure)
            } catch {
                report("\(error)", &failure)
            }
            log.flush()
            manager.isWorking()
            if !sleep(since: begun) { return }
        } while true
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

    /// Until the next scan is due, telling the service manager meanwhile that all is well.
    ///
    /// - Returns: false when there is to be none.
    private func sleep(since begun: UInt64) -> Bool {
        while true {
            let passed = Duration.nanoseconds(Int64(KernelClock.monotonic - begun))
            let left = interval - passed
            if left <= .zero { return true }
            let calls = bell.listen(for: min(left, manager.watchdog.map { $0 / 4 } ?? left))
            if calls.contains(.stop) { return false }
            manager.isWorking()
            if calls.contains(.reload) {
                manager.reloading()
                logger.info("reloaded, \(summary)")
                manager.ready(summary)
                return true
            }
        }
    }
}
