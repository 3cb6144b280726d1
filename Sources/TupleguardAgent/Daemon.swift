// SPDX-License-Identifier: Apache-2.0
// The daemon: attaches, watches, reports, until it is told to stop. The guard
// itself lives in the kernel and does not need it.

import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import TupleguardKernel

package enum Daemon {
    /// Runs the agent in the foreground until SIGTERM or SIGINT; blocks the calling thread.
    ///
    /// - Throws: `GuardError` when it cannot start; nothing new is left attached then.
    package static func run(_ configuration: AgentConfiguration) throws {
        try runToEnd { try await start(configuration) }
    }

    /// Blocks the calling thread until `body` ends.
    static func runToEnd(_ body: @escaping @Sendable () async throws -> Void) throws {
        let outcome = Mutex<Result<Void, any Error>>(.success(()))
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

    /// Keeps other agents away for as long as the lock is held. What is made from here on is nobody
    /// else's to write, until it is given a mode that says so.
    static func takeOver(_ folder: RunFolder) throws -> AgentLock {
        umask(umask(0o777) | 0o022)
        return try AgentLock(folder)
    }

    static func makeLogger(_ format: LogFormat) -> Logger {
        var logger = Logger(label: "tupleguard") { _ in AgentLogHandler(format: format) }
        logger.logLevel = .info
        return logger
    }

    private static func start(_ configuration: AgentConfiguration) async throws {
        try Platform.check()
        let lock = try takeOver(configuration.runFolder)
        let logger = makeLogger(configuration.logFormat)
        let manager = ServiceManager()
        let followers = Followers()
        let pump = try EventPump(
            state: configuration.state, logger: logger, format: configuration.logFormat,
            followers: followers)
        let reconciler = Reconciler(configuration, logger: logger, pump: pump, manager: manager)
        try await reconciler.begin()
        let conflicts = UserspaceConflicts()
        let receiver = try ReportReceiver(
            path: configuration.runFolder.reportSocket, conflicts: conflicts, followers: followers,
            logger: logger, format: configuration.logFormat)
        let server = AgentServer(
            path: configuration.runFolder.socket, followers: followers, conflicts: conflicts)
        let group = ServiceGroup(
            services: [reconciler, pump, receiver, server],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: Logger(label: "lifecycle") { _ in SwiftLogNoOpLogHandler() })
        let summary = await reconciler.summary
        manager.ready(summary)
        logger.info("ready, \(summary)")
        if !configuration.runFolder.isEnterable {
            let folder = configuration.runFolder.path
            logger.notice(
                "only root's programs can report: others may not enter \(folder) (chmod o+x)")
        }
        try await group.run()
        logger.info(
            configuration.detachOnExit
                ? "stopped" : "stopped; the guard stays attached (`tupleguard detach` ends it)")
        _ = lock
    }
}
