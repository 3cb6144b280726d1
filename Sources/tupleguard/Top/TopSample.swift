// SPDX-License-Identifier: Apache-2.0
// What `top` shows, looked up again and again on a thread of its own: keys are answered meanwhile.

import CTupleguardLinux
import Dispatch
import Glibc
import Synchronization
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux
import TupleguardMetrics
import TupleguardRecords
import TupleguardSockets

/// One look at everything that `top` shows.
struct TopSample: Sendable {
    let time = Timestamp.now
    let host: HostSample
    /// Newest first.
    let conflicts: [KnownConflict]

    /// More than a screen has room for.
    private static let most = 100

    init(_ selection: NetworkNamespace.Selection, state: GuardState, agent: RunFolder) throws {
        let findings = try? AgentFindings.read(from: agent)
        host = try HostSample(
            selection, [.ports, .shadows], state: state,
            agent: findings.map { AgentSummary(totals: $0.totals, scan: nil) }, owners: Self.most,
            findsPrograms: false)
        let guarded = host.guard == nil ? [] : (try? state.conflicts()) ?? []
        let names = CgroupNames()
        conflicts = Array(
            KnownConflict.all(guarded, findings, cgroupPath: names.path(of:)).prefix(Self.most))
    }
}

/// Takes samples until it is stopped.
final class TopSampler: Sendable {
    private let take: @Sendable () throws -> TopSample
    private let interval: Double
    /// What came of the last look; taken by whoever shows it.
    private let latest = Mutex<Result<TopSample, any Error>?>(nil)
    private let isStopping = Mutex(false)
    private let wake = DispatchSemaphore(value: 0)
    /// Readable when there is a new sample (eventfd(2)).
    let news: OwnedDescriptor

    /// A look takes a fifth of a processor at most, however many sockets there are.
    private static let rest = 4.0

    /// - Parameter interval: seconds between the beginnings of two looks.
    init(
        every interval: Double, _ take: @escaping @Sendable () throws -> TopSample
    ) throws(Errno) {
        self.interval = interval
        self.take = take
        news = try OwnedDescriptor {
            eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        }
    }

    /// Runs until `stop`.
    func run() {
        while !isStopping.withLock({ $0 }) {
            let begun = KernelClock.monotonic
            let sample = Result(catching: take)
            latest.withLock { $0 = sample }
            eventfd_write(news.raw, 1)
            let cost = Double(KernelClock.monotonic - begun) / 1e9
            let pause = max(interval - cost, Self.rest * cost)
            _ = wake.wait(timeout: .now() + pause)
        }
    }

    /// What is new since it was last asked.
    func next() throws -> TopSample? {
        var count: eventfd_t = 0
        eventfd_read(news.raw, &count)
        return try latest.withLock { latest in
            defer { latest = nil }
            return try latest?.get()
        }
    }

    func stop() {
        isStopping.withLock { $0 = true }
        wake.signal()
    }
}
