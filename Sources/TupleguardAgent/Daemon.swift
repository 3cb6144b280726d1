// SPDX-License-Identifier: Apache-2.0
// The agent put together: it watches, hears, answers, logs, until it is told to stop. The guard
// itself lives in the kernel and does not need it.

import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux

package struct Daemon: Sendable {
    private let configuration: AgentConfiguration

    package init(_ configuration: AgentConfiguration) {
        self.configuration = configuration
    }

    /// Runs the agent in the foreground until SIGTERM or SIGINT; blocks the calling thread.
    ///
    /// - Throws: `AgentError` or `GuardError` when it cannot start; nothing new is left attached
    ///   then.
    package func run() throws {
        try Self.runToEnd { try await start() }
    }

    /// Blocks the calling thread until `body` ends.
    private static func runToEnd(_ body: @escaping @Sendable () async throws -> Void) throws {
        let outcome = Mutex<Result<Void, any Error>>(.success(()))
        // A task cannot be waited for from outside of one; the main thread has nothing else to do.
        let ended = DispatchSemaphore(value: 0)
        Task {
            do {
                try await body()
            } catch {
                outcome.withLock { $0 = .failure(error) }
            }
            ended.signal()
        }
        ended.wait()
        try outcome.withLock { $0 }.get()
    }

    private func start() async throws {
        // Before anything is attached: whoever hears that we are ready may end us at once, and an
        // end half-way through the start would leave what is to go with the agent.
        let stopRequests = await SignalRequests(.sigterm, .sigint)
        let reloadRequests = await SignalRequests(.sighup)
        if case .guard = configuration.watch { try Platform.check() }
        // What is made from here on is nobody else's to write, until it is given a mode that says
        // so.
        umask(umask(0o777) | 0o022)
        let lock = try AgentLock(configuration.runFolder)
        let log = AgentLog(configuration.logFormat)
        defer { log.close() }
        let logger = makeLogger(log)
        let cgroups = CgroupNames()
        let (followers, notices, pods) = (Followers(), Notices(), PodRefusals())
        let manager = ServiceManager()
        let scans = Scans()
        // Where a guard watches nobody is told of scans.
        let shown: Scans? = if case .scan = configuration.watch { scans } else { nil }
        // Before anything is attached: an address that can't be had leaves nothing behind.
        let metrics = try await makeMetricsServer {
            AgentSummary(totals: notices.totals, scan: shown?.totals, pods: pods.all)
        }
        let watch = try makeWatch(followers, pods, scans, log, logger, cgroups, manager)
        let receiver = try NoticeReceiver(
            path: configuration.runFolder.noticeSocket, notices: notices, followers: followers,
            log: log)
        let server = AgentServer(
            path: configuration.runFolder.socket, followers: followers, notices: notices,
            scans: shown, pods: pods, cgroups: cgroups, descriptors: raiseDescriptorLimit(),
            health: {
                AgentHealth(
                    pid: getpid(), doing: watch.doing(),
                    secondsSinceLastRound: watch.sinceLastRound().map { $0 / .seconds(1) },
                    logLinesLost: log.linesLost)
            },
            // Only now: whoever hears that we are ready may ask at once.
            listening: {
                manager.ready(watch.doing())
                logger.info("ready, \(watch.doing())")
            })
        for place in metrics?.places ?? [] { logger.info("metrics at \(place)") }
        // Ended in the opposite order.
        let services: [any Service] =
            watch.services + (metrics.map { [$0] } ?? []) + [
                receiver, server, ReloadListener(requests: reloadRequests, reload: watch.reload),
                StopNotifier(manager: manager),
            ]
        let stopListener = ServiceGroupConfiguration.ServiceConfiguration(
            service: StopListener(requests: stopRequests),
            successTerminationBehavior: .gracefullyShutdownGroup)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services.map { .init(service: $0) } + [stopListener],
                logger: Logger(label: "lifecycle") { _ in SwiftLogNoOpLogHandler() }))
        sayWhoCannotReport(logger)
        try await group.run()
        logger.info("\(watch.lastWords())")
        lock.keep()
    }

    /// What makes the agent see conflicts.
    private struct Watch: Sendable {
        let services: [any Service]
        /// What it is doing, for the log, the service manager and whoever asks.
        let doing: @Sendable () -> String
        /// Since it last did what it is to do every few seconds; nil where that is not said.
        var sinceLastRound: @Sendable () -> Duration? = { nil }
        /// What SIGHUP is for.
        let reload: @Sendable () -> Void
        let lastWords: @Sendable () -> String
    }

    private func makeWatch(
        _ followers: Followers, _ pods: PodRefusals, _ scans: Scans, _ log: AgentLog,
        _ logger: Logger,
        _ cgroups: CgroupNames, _ manager: ServiceManager
    ) throws -> Watch {
        switch configuration.watch {
        case .guard(let configuration, let reread):
            let pump = try EventPump(
                state: configuration.state, log: log, cgroups: cgroups, followers: followers,
                pods: pods)
            let reconciler = Reconciler(
                configuration, logger: logger, pump: pump, manager: manager, reread: reread)
            try reconciler.begin()
            return Watch(
                services: [reconciler, pump], doing: { reconciler.summary },
                sinceLastRound: { reconciler.sinceLastRound },
                reload: { reconciler.reload() },
                lastWords: {
                    reconciler.detachesOnExit
                        ? "stopped"
                        : "stopped; the guard stays attached (`tupleguard detach` ends it)"
                })
        case .scan(let interval, _):
            let scanner = ShadowScanner(
                every: interval, scans: scans, followers: followers, logger: logger, log: log,
                manager: manager)
            try scanner.begin()
            return Watch(
                services: [scanner], doing: { scanner.summary },
                reload: { scanner.reload() },
                lastWords: {
                    let totals = scans.totals
                    return
                        "stopped after \(amount(totals.scans, "scan")); conflicts found: \(grouped(totals.found))"
                })
        }
    }

    /// Nil where no metrics are asked for.
    private func makeMetricsServer(
        _ summary: @escaping @Sendable () -> AgentSummary
    ) async throws -> MetricsServer? {
        guard !configuration.metrics.isEmpty else { return nil }
        var state = GuardState()
        if case .guard(let configuration, _) = configuration.watch { state = configuration.state }
        let looks = MetricsLooks(
            state: state, version: configuration.version,
            hasPodLabels: configuration.hasPodLabels, summary: summary)
        return try await MetricsServer(configuration.metrics, looks: looks)
    }

    private func makeLogger(_ log: AgentLog) -> Logger {
        var logger = Logger(label: "tupleguard") { _ in AgentLogHandler(log) }
        logger.logLevel = .info
        return logger
    }

    private func sayWhoCannotReport(_ logger: Logger) {
        guard !configuration.runFolder.isEnterable else { return }
        let folder = configuration.runFolder.path
        logger.notice("only root's programs can report: others may not enter \(folder) (chmod o+x)")
    }
}
