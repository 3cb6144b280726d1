// SPDX-License-Identifier: Apache-2.0
// Looks at the host for those who scrape: one at a time, off the event loop, and the same for all
// who ask within a few seconds.

import NIOCore
import NIOPosix
import Synchronization
import TupleguardAgentClient
import TupleguardHostSurvey
import TupleguardKernel
import TupleguardLinux
import TupleguardMetrics

final class MetricsLooks: Sendable {
    /// Nanoseconds for which a look is good.
    private static let validity: UInt64 = 3_000_000_000

    private struct Look {
        let families: EventLoopFuture<[MetricFamily]>
        let begun: UInt64
    }

    private let state: GuardState
    private let version: String
    private let hasPodLabels: Bool
    private let summary: @Sendable () -> AgentSummary
    private let pool = NIOThreadPool(numberOfThreads: 1)
    private let last = Mutex<Look?>(nil)

    /// - Parameter summary: what the agent has counted by now.
    init(
        state: GuardState, version: String, hasPodLabels: Bool,
        summary: @escaping @Sendable () -> AgentSummary
    ) {
        self.state = state
        self.version = version
        self.hasPodLabels = hasPodLabels
        self.summary = summary
        pool.start()
    }

    /// What there is to scrape.
    func families(on loop: any EventLoop) -> EventLoopFuture<[MetricFamily]> {
        let now = KernelClock.monotonic
        let look = last.withLock { last in
            if let last, now - last.begun < Self.validity { return last.families }
            let families = pool.runIfActive(eventLoop: loop) {
                [state, version, hasPodLabels, summary] in
                try HostSample(
                    .all, [.ports, .shadows, .translations], state: state, agent: summary()
                ).families(version: version, hasPodLabels: hasPodLabels)
            }
            last = Look(families: families, begun: now)
            return families
        }
        return look.hop(to: loop)
    }

    func stop() async throws { try await pool.shutdownGracefully() }
}
