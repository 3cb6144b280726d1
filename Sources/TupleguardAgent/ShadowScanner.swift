// SPDX-License-Identifier: Apache-2.0
// Looks for overshadowed sockets again and again: the agent without BPF.

import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// What an agent without BPF is told.
package struct ScanConfiguration: Sendable {
    package var runFolder: RunFolder
    package var logFormat: LogFormat
    /// Between the beginnings of two scans.
    package var interval: Duration

    package init(runFolder: RunFolder, logFormat: LogFormat, interval: Duration) {
        self.runFolder = runFolder
        self.logFormat = logFormat
        self.interval = interval
    }
}

/// Scans on a thread of its own, which sleeps in between. One scan costs about a microsecond for
/// each UDP socket, and keeps eight bytes of it while it lasts.
final class ShadowScanner: Service, Sendable {
    private let configuration: ScanConfiguration
    private let scans: Scans
    private let followers: Followers
    private let logger: Logger
    private let isStopping = Mutex(false)
    /// Signalled to end a sleep.
    private let wake = DispatchSemaphore(value: 0)

    init(
        _ configuration: ScanConfiguration, scans: Scans, followers: Followers, logger: Logger
    ) {
        self.configuration = configuration
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
        var log = ConflictLog(logger: logger, format: configuration.logFormat)
        var failure: String?
        while !isStopping.withLock({ $0 }) {
            let begun = KernelClock.monotonic
            do {
                let unseen = try scan(&log)
                report(unseen, &failure)
            } catch {
                report("cannot look at the sockets: \(error)", &failure)
            }
            log.flush()
            sleep(since: begun)
        }
    }

    /// - Returns: what could not be seen; nil when all was.
    private func scan(_ log: inout ConflictLog) throws -> String? {
        let survey = try Survey(.all, .shadows)
        let time = KernelClock.realTime
        let cgroups = CgroupNames()
        let events = scans.update(survey.shadows, time: time) { shadows in
            let owners = SocketOwners(of: shadows.flatMap(\.members).map(\.inode))
            return shadows.map {
                ScanEventReport($0, time: time, owners: owners, cgroups: cgroups)
            }
        }
        for event in events {
            let line = log.log(at: time, isFollowed: !followers.isEmpty) { _ in event }
            if let line { followers.send(line) }
        }
        return survey.unseenNamespaces.map { "not seen: \($0)" }
    }

    /// Says it once, and again when it is another.
    private func report(_ failure: String?, _ known: inout String?) {
        if let failure, failure != known { logger.warning("\(failure)") }
        known = failure
    }

    private func sleep(since begun: UInt64) {
        let interval = Int(configuration.interval / .nanoseconds(1))
        let left = interval - Int(KernelClock.monotonic - begun)
        _ = wake.wait(timeout: .now() + .nanoseconds(max(0, left)))
    }
}

extension Daemon {
    /// Runs the agent without the guard, until SIGTERM or SIGINT: it finds conflicts by looking, logs and
    /// counts them, and hears what programs report. Needs no BPF; blocks the calling thread.
    ///
    /// - Throws: `GuardError` when it cannot start.
    package static func scan(_ configuration: ScanConfiguration) throws {
        try runToEnd { try await startScanning(configuration) }
    }

    private static func startScanning(_ configuration: ScanConfiguration) async throws {
        let lock = try takeOver(configuration.runFolder)
        let logger = makeLogger(configuration.logFormat)
        let manager = ServiceManager()
        let (followers, conflicts, scans) = (Followers(), UserspaceConflicts(), Scans())
        let scanner = ShadowScanner(
            configuration, scans: scans, followers: followers, logger: logger)
        let receiver = try ReportReceiver(
            path: configuration.runFolder.reportSocket, conflicts: conflicts, followers: followers,
            logger: logger, format: configuration.logFormat)
        let server = AgentServer(
            path: configuration.runFolder.socket, followers: followers, conflicts: conflicts,
            scans: scans)
        let group = ServiceGroup(
            services: [scanner, receiver, server],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: Logger(label: "lifecycle") { _ in SwiftLogNoOpLogHandler() })
        let summary = "looking every \(configuration.interval), without a guard"
        manager.ready(summary)
        logger.info("ready, \(summary)")
        try await group.run()
        manager.stopping()
        let counts = scans.summary
        logger.info("stopped after \(counts.scans) scans; conflicts found: \(counts.found)")
        _ = lock
    }
}
