// SPDX-License-Identifier: Apache-2.0
// The risk of overshadowing: threads go for one 4-tuple at the same moment, again and
// again, and whoever has a socket with it afterwards is counted, by the kernel's word.

import CTupleguardLinux
import Connectx
import Glibc
import Synchronization
import TupleguardLinux
import TupleguardSockets

/// What came of it.
package struct ContentionReport: Encodable, Sendable {
    package let threads: Int
    /// Other sockets on the contended source address and port, with other destinations.
    package let otherSockets: Int
    /// In each round every thread makes one attempt.
    package internal(set) var rounds = 0
    package internal(set) var attempts = 0
    package internal(set) var succeeded = 0
    /// Sockets that held a 4-tuple together with another one of the same round, without the first
    /// of each tuple: connected, and silent.
    package internal(set) var overshadowed = 0
    /// Rounds that left a socket overshadowed. (The attempts of one round depend on each other; the
    /// rounds do not.)
    package internal(set) var lostRounds = Proportion()
    /// How the others failed: "EADDRINUSE (bind)", and how often.
    package internal(set) var failures: [String: Int] = [:]

    init(threads: Int, otherSockets: Int) {
        self.threads = threads
        self.otherSockets = otherSockets
    }
}

/// How many of these connected sockets are overshadowed: those beyond the first on each 4-tuple.
func overshadowed(among tuples: [FourTuple]) -> Int {
    tuples.count - Set(tuples).count
}

extension Technique {
    /// - Parameter duration: how long rounds are played; up to five times as long on a machine that
    ///   is too busy for a thousand of them.
    func measureContention(_ setting: Setting, for duration: Duration) throws -> ContentionReport {
        let port = setting.ports.upperBound
        // One port to choose from, so that those who leave the choice to the kernel meet as well.
        if portChoice == .kernel { try LabNamespace.setPorts(port...port) }
        defer { try? LabNamespace.setPorts(setting.ports) }
        let wish = Wish(
            source: Endpoint(setting.address, portChoice == .kernel ? 0 : port),
            destination: setting.destinations[0])
        var crowd = HeldSockets()
        var kit = try Kit()
        try crowd.grow(to: others, on: wish.source, &kit)
        let arena = try Arena(self, wish, for: duration)
        try onThreads(kits: arena.threads) { number, kit in
            // Side by side, also where the scheduler would rather have them one after the other.
            linux_stay_on_processor(Int32(number))
            arena.contend(&kit)
        }
        _ = consume crowd
        return arena.report
    }
}

extension HeldSockets {
    /// Adds UDP sockets that share `source`, each with a destination of its own, until there are
    /// so many.
    mutating func grow(to count: Int, on source: Endpoint, _ kit: inout Kit) throws(CallFailure) {
        while all.count < count {
            let destination = Endpoint(source.address, UInt16(1 + all.count))
            hold(try Technique.shared(.udp)(&kit, Wish(source: source, destination: destination)))
        }
    }
}

/// Where the threads of one measurement meet.
private final class Arena: Sendable {
    let threads = max(2, min(4, Int(linux_processors())))
    private let technique: Technique
    private let wish: Wish
    private let end: ContinuousClock.Instant
    private let latestEnd: ContinuousClock.Instant
    private static let fewestRounds = 1000
    private let servers: Servers
    private let barrier: Barrier
    private let round: Mutex<Round>

    private struct Round {
        var held: [Int32] = []
        var report: ContentionReport
        var isLast = false
    }

    var report: ContentionReport { round.withLock { $0.report } }

    init(_ technique: Technique, _ wish: Wish, for duration: Duration) throws {
        self.technique = technique
        self.wish = wish
        end = .now + duration
        latestEnd = end + duration * 4
        servers = try Servers(ports: technique.transport == .tcp ? [wish.destination.port] : [])
        barrier = Barrier(parties: threads)
        round = Mutex(
            Round(report: ContentionReport(threads: threads, otherSockets: technique.others)))
    }

    /// One thread's part.
    func contend(_ kit: inout Kit) {
        var isLast = false
        while !isLast {
            Self.waitAtRandom()
            kit.rendezvous = { self.barrier.wait {} }
            attempt(&kit)
            // A technique that does not meet, or failed before: nobody may be missing.
            kit.meet()
            barrier.wait { judge() }
            isLast = round.withLock { $0.isLast }
        }
    }

    /// Head starts of all sizes, from nothing to 65 us: races are lost at distances that differ
    /// with the technique, the processor, and what else runs on it.
    private static func waitAtRandom() {
        let longest = UInt64(1) << UInt64.random(in: 0...16)
        let end = KernelClock.monotonic + UInt64.random(in: 0..<longest)
        while KernelClock.monotonic < end {}
    }

    private func attempt(_ kit: inout Kit) {
        do throws(CallFailure) {
            let socket = try technique.open(&kit, wish).release()
            round.withLock {
                $0.report.attempts += 1
                $0.held.append(socket)
            }
        } catch {
            round.withLock {
                $0.report.attempts += 1
                $0.report.failures[error.description, default: 0] += 1
            }
        }
    }

    /// All attempts of the round are over, and nobody begins the next before this is.
    private func judge() {
        round.withLock { round in
            let tuples = round.held.compactMap(tuple(of:))
            round.report.rounds += 1
            round.report.succeeded += round.held.count
            let lost = overshadowed(among: tuples)
            round.report.overshadowed += lost
            round.report.lostRounds.add(lost > 0)
            for socket in round.held { reset(socket) }
            round.held.removeAll(keepingCapacity: true)
            let now = ContinuousClock.now
            round.isLast =
                now >= end && (round.report.rounds >= Self.fewestRounds || now >= latestEnd)
        }
        servers.drain()
    }
}

/// Where threads wait for one another. It is cheap for rounds of some microseconds, and those that
/// waited start within a fraction of one.
private final class Barrier: Sendable {
    private let parties: Int
    private let arrived = Atomic<Int>(0)
    private let generation = Atomic<Int>(0)
    /// How long to spin before the processor is given to another thread: some tens of microseconds.
    private static let spins = 50_000

    init(parties: Int) {
        self.parties = parties
    }

    /// - Parameter whenAllAreHere: run by the last to arrive, before anyone goes on.
    func wait(_ whenAllAreHere: () -> Void) {
        let current = generation.load(ordering: .acquiring)
        if arrived.add(1, ordering: .acquiringAndReleasing).newValue == parties {
            arrived.store(0, ordering: .relaxed)
            whenAllAreHere()
            generation.add(1, ordering: .releasing)
            return
        }
        var spins = 0
        while generation.load(ordering: .acquiring) == current {
            spins += 1
            if spins > Self.spins { sched_yield() }
        }
    }
}
