// SPDX-License-Identifier: Apache-2.0
// Keeps what is attached as it was asked for, round by round, for as long as the agent runs.

import Logging
import ServiceLifecycle
import Synchronization
import TupleguardLinux

/// Looks every few seconds whether reality is still what the configuration says.
///
/// On a thread of its own: it waits for locks and for the kernel. It is also the one that tells
/// the service manager that the agent works, so that this is not said when it does not.
final class Reconciler: Service, Sendable {
    private static let interval = Duration.seconds(2)

    private let keeper: Mutex<GuardKeeper>
    private let pump: EventPump
    private let manager: ServiceManager
    private let logger: Logger
    /// Reads the configuration anew; nil where there is none to be read.
    private let reread: (@Sendable () throws -> GuardConfiguration)?
    /// Why the configuration was not taken over when it was last read.
    private let mistake = Mutex<String?>(nil)
    private let bell = Bell()
    private let failure = Mutex<(any Error)?>(nil)
    private let lastRound = Atomic<UInt64>(KernelClock.monotonic)
    /// For the log, the service manager and whoever asks: what is guarded, and what is not.
    private let lastSummary = Mutex("")

    init(
        _ configuration: GuardConfiguration, logger: Logger, pump: EventPump,
        manager: ServiceManager, reread: (@Sendable () throws -> GuardConfiguration)? = nil
    ) {
        keeper = Mutex(GuardKeeper(configuration, logger: logger))
        self.pump = pump
        self.manager = manager
        self.logger = logger
        self.reread = reread
    }

    /// Attaches, adopts and upgrades at the start. Here every fault is an error, and what was
    /// attached before it is taken off again.
    func begin() throws {
        let summary = try keeper.withLock {
            try $0.begin()
            return $0.summary
        }
        lastSummary.withLock { $0 = summary }
    }

    /// What is guarded, and what is not, as of the last round.
    var summary: String { lastSummary.withLock { $0 } }

    /// Whether the guard goes when the agent does.
    var detachesOnExit: Bool { keeper.withLock { $0.configuration.detachOnExit } }

    /// Has the next round begin at once, with the configuration read anew.
    func reload() { bell.ring(.reload) }

    func run() async throws {
        try await runOnThread {
            self.keepUntilStopped()
        } stop: {
            self.bell.ring(.stop)
        }
        if let failure = failure.withLock({ $0 }) { throw failure }
        keeper.withLock { $0.end() }
    }

    private func keepUntilStopped() {
        // Several times in the time after which the service manager takes us for dead.
        let interval = min(Self.interval, manager.watchdog.map { $0 / 4 } ?? Self.interval)
        var lastSweep = KernelClock.monotonic
        while true {
            let calls = bell.listen(for: interval)
            if calls.contains(.stop) { return }
            do {
                try round(isReload: calls.contains(.reload))
            } catch {
                failure.withLock { $0 = error }
                return
            }
            let passed = Duration.nanoseconds(Int64(KernelClock.monotonic - lastSweep))
            guard passed >= keeper.withLock({ $0.configuration.sweepInterval }) else { continue }
            keeper.withLock { $0.sweep() }
            manager.isWorking()
            lastSweep = KernelClock.monotonic
        }
    }

    /// - Throws: what makes the agent give up.
    private func round(isReload: Bool) throws {
        if isReload {
            manager.reloading()
            takeOverConfiguration()
        }
        var (after, hasOtherEvents) = try keeper.withLock { keeper in
            let hasOtherEvents = try keeper.reconcile()
            return (keeper.summary, hasOtherEvents)
        }
        if let mistake = mistake.withLock({ $0 }) { after += "; not reloaded: \(mistake)" }
        let before = summary
        lastSummary.withLock { $0 = after }
        if isReload {
            if mistake.withLock({ $0 }) == nil { logger.info("reloaded, \(after)") }
            manager.ready(after)
        } else if after != before {
            manager.status(after)
        }
        if hasOtherEvents { pump.lookAgain() }
        // The pump answers each call, so one that hangs is found out.
        if pump.answersCalls() { manager.isWorking() }
        lastRound.store(KernelClock.monotonic, ordering: .relaxed)
    }

    /// What has a mistake is named, and changes nothing.
    private func takeOverConfiguration() {
        guard let reread else { return }
        do {
            let new = try reread()
            try keeper.withLock { try $0.change(to: new) }
            mistake.withLock { $0 = nil }
        } catch {
            let text = printable("\(error)")
            mistake.withLock { $0 = text }
            logger.error("not reloaded, everything goes on as it was: \(text)")
        }
    }

    /// Since the end of the last round.
    var sinceLastRound: Duration {
        .nanoseconds(Int64(KernelClock.monotonic - lastRound.load(ordering: .relaxed)))
    }
}
