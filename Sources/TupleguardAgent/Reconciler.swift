// SPDX-License-Identifier: Apache-2.0
// Keeps what is attached as it was asked for: cgroups vanish and come back,
// programs are upgraded, claims lose their sockets.

import Glibc
import Logging
import ServiceLifecycle
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Looks every few seconds whether reality is still what the configuration says.
actor Reconciler: Service {
    private static let interval = Duration.seconds(2)

    private let configuration: GuardConfiguration
    private let logger: Logger
    private let pump: EventPump
    private let state: GuardState
    /// By name, the id of the cgroup that was last attached under it; nil while it is missing.
    private var guarded: [String: UInt64?] = [:]
    private var eventsMapID: UInt32?
    private var isNearlyFull = false

    init(
        _ configuration: GuardConfiguration, logger: Logger, pump: EventPump
    ) {
        self.configuration = configuration
        self.logger = logger
        self.pump = pump
        state = configuration.state
    }

    /// Attaches, adopts and upgrades at the start. Here every fault is an error.
    func begin() throws {
        let hierarchy = try CgroupHierarchy()
        if let paths = try state.takeOver() {
            logger.info(
                "took over what an older version guards (\(paths.joined(separator: ", "))); counters begin anew"
            )
        }
        for name in configuration.cgroups {
            let cgroup = try Cgroup(name, in: hierarchy)
            try attachOrAdopt(cgroup, policy: configuration.policy)
            guarded[name] = cgroup.id
        }
        try adoptOthers(in: hierarchy)
        eventsMapID = state.eventsMapID
        try seed()
    }

    private func attachOrAdopt(_ cgroup: Cgroup, policy: Policy) throws {
        do {
            try state.attach(cgroup, policy: policy, tableSize: configuration.tableSize)
            logger.info("guarding \(cgroup.path) (\(policy.mode.rawValue))")
        } catch GuardError.alreadyAttached {
            let existing = try state.attachments().first { $0.id == cgroup.id }
            if existing?.policy != policy {
                try state.attach(
                    cgroup, policy: policy, tableSize: configuration.tableSize, replacing: true)
                logger.info("adopted \(cgroup.path), with a new policy (\(policy.mode.rawValue))")
            } else if let existing, try state.upgrade(existing, of: cgroup) {
                logger.info("adopted \(cgroup.path), and upgraded its programs")
            } else {
                logger.info("adopted \(cgroup.path) (\(policy.mode.rawValue))")
            }
        }
    }

    /// What the command attached without us is looked after too.
    private func adoptOthers(in hierarchy: CgroupHierarchy) throws {
        for attachment in try state.attachments() {
            guard !guarded.values.contains(attachment.id), let path = attachment.path,
                let cgroup = try? Cgroup(path, in: hierarchy)
            else { continue }
            let upgraded = try state.upgrade(attachment, of: cgroup)
            logger.info("adopted \(cgroup.path)\(upgraded ? ", and upgraded its programs" : "")")
        }
    }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var untilSweep = self.configuration.sweepInterval
            while (try? await Task.sleep(for: Self.interval)) != nil {
                await self.reconcile()
                untilSweep -= Self.interval
                guard untilSweep <= .zero else { continue }
                await self.sweep()
                untilSweep = self.configuration.sweepInterval
            }
        }
        if configuration.detachOnExit { detach() }
    }

    private func reconcile() {
        do {
            let hierarchy = try CgroupHierarchy()
            try removeVanished()
            for name in configuration.cgroups { try reconcile(name, in: hierarchy) }
            try watchFilling()
            if state.eventsMapID != eventsMapID {
                eventsMapID = state.eventsMapID
                pump.lookAgain()
            }
        } catch {
            logger.error("looking after the guarded cgroups: \(error)")
        }
    }

    /// Says once that the table runs short and by whom, and once that it is over.
    private func watchFilling() throws {
        guard state.exists else { return }
        let filling = try state.filling()
        if filling >= GuardState.nearlyFull && !isNearlyFull {
            let owners = try state.largestOwners(3).map(\.description).joined(separator: "; ")
            logger.warning(
                "the claim table runs short (\(Int(filling * 100))% of what everybody may use): whoever holds most of it soon gets no more; \(owners)"
            )
            isNearlyFull = true
        } else if filling < GuardState.nearlyFull / 2 && isNearlyFull {
            logger.notice("the claim table has room again")
            isNearlyFull = false
        }
    }

    /// Pins of cgroups that exist no more hold nothing but memory.
    private func removeVanished() throws {
        guard state.exists else { return }
        for attachment in try state.attachments() where attachment.path == nil {
            // Ours stay until they are back: the shared maps live as long as one attachment does.
            guard !guarded.values.contains(attachment.id) else { continue }
            try state.detach(attachment.id, path: "cgroup \(attachment.id)")
        }
    }

    private func reconcile(_ name: String, in hierarchy: CgroupHierarchy) throws {
        let cgroup = try? Cgroup(name, in: hierarchy)
        let known = guarded[name] ?? nil
        switch (known, cgroup) {
        case (let known?, nil):
            logger.notice("\(name) is gone; it will be guarded again when it is back")
            guarded[name] = .some(nil)
            try? state.detach(known, path: name)
        case (_, let cgroup?) where cgroup.id != known:
            try attachOrAdopt(cgroup, policy: configuration.policy)
            guarded[name] = cgroup.id
            if let known { try? state.detach(known, path: name) }
            try seed()
        default:
            break
        }
    }

    private func seed() throws {
        log(try state.seed())
    }

    private func log(_ seeded: Seeded) {
        if seeded.claimed > 0 || seeded.conflicts > 0 || seeded.unclaimed > 0 {
            logger.info(
                "seeded the claim table: \(seeded.claimed) sockets now have a claim, \(seeded.known) had one, \(seeded.conflicts) share a tuple with another, \(seeded.unclaimed) went without"
            )
        }
        if seeded.overShare > 0 {
            logger.notice(
                "\(seeded.overShare) connected sockets outside the guarded cgroups have no claim: such get a quarter of the table at most"
            )
        }
    }

    private func sweep() {
        guard state.exists else { return }
        do {
            let swept = try state.sweep()
            if swept.dropped > 0 || swept.records > 0 {
                logger.info(
                    "swept: of \(swept.claims) claims \(swept.dropped) had no socket; \(swept.records) records freed"
                )
            }
            try state.seed(after: swept, again: true)
            if configuration.onShadow == .destroy { try endNewcomers() }
        } catch {
            logger.error("sweeping: \(error)")
        }
    }

    private func endNewcomers() throws {
        let shadows = try state.conflicts().map(\.last).filter { $0.reason == .shadow }
        for ended in Newcomers.end(of: shadows) {
            logger.notice("ended a socket that had come to another's tuple: \(ended)")
        }
    }

    private func detach() {
        for case let id? in guarded.values {
            do {
                try state.detach(id, path: "cgroup \(id)")
            } catch {
                logger.error("detaching: \(error)")
            }
        }
        logger.info("detached")
    }

    /// For whoever asks: how many cgroups are guarded.
    var summary: String {
        let count = guarded.values.count { $0 != nil }
        return "guarding \(count) of \(configuration.cgroups.count) cgroups"
    }
}
