// SPDX-License-Identifier: Apache-2.0
// What it takes to keep cgroups guarded: they vanish and come back, others take the guard off,
// programs are upgraded, claims lose their sockets.

import Glibc
import Logging
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux

/// The cgroups that the agent is to guard, and what became of them.
struct GuardKeeper {
    private enum Condition: Equatable {
        case guarded(id: UInt64)
        /// There is no such cgroup; it will be guarded when there is.
        case missing
        case failed(why: String)

        var id: UInt64? { if case .guarded(let id) = self { id } else { nil } }
    }

    private(set) var configuration: GuardConfiguration
    private let logger: Logger
    private let state: GuardState
    private var conditions: [String: Condition] = [:]
    private var eventsMapID: UInt32?
    private var isNearlyFull = false
    /// What was said last of namespaces that could not be looked into.
    private var lastUnseen: String?
    /// What was said of programs and obstacles around the guarded cgroups.
    private var remarks: Set<String> = []
    /// What was said last of a round that failed: once is enough.
    private var lastFault: String?

    init(_ configuration: GuardConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        state = configuration.state
    }

    private var guardedIDs: Set<UInt64> { Set(conditions.values.compactMap(\.id)) }

    /// "guarding 1 of 2 cgroups; missing: proxy.slice"
    var summary: String {
        let count = amount(configuration.cgroups.count, "cgroup")
        var text = "guarding \(guardedIDs.count) of \(count)"
        let missing = configuration.cgroups.filter { conditions[$0] == .missing }
        if !missing.isEmpty {
            text += "; missing, waited for: \(missing.joined(separator: ", "))"
        }
        for name in configuration.cgroups {
            if case .failed(let why) = conditions[name] { text += "; not \(name): \(why)" }
        }
        return printable(text)
    }

    // MARK: - The start

    /// Attaches, adopts and upgrades. When it throws, nothing is attached that was not before.
    mutating func begin() throws {
        let hierarchy = try CgroupHierarchy()
        try state.checkPlace()
        if let paths = try state.takeOver() {
            logger.info(
                "took over what an older version guards (\(paths.joined(separator: ", "))); counters begin anew"
            )
        }
        // All of them before any is attached: most mistakes are in their names.
        let cgroups = try configuration.cgroups.map { ($0, try existing($0, in: hierarchy)) }
        var new: [UInt64] = []
        do {
            for (name, cgroup) in cgroups {
                guard let cgroup else {
                    conditions[name] = .missing
                    logger.notice("\(name) is not there; it will be guarded when it is")
                    continue
                }
                if try attachOrAdopt(cgroup) { new.append(cgroup.id) }
                conditions[name] = .guarded(id: cgroup.id)
            }
            try adoptOthers(in: hierarchy)
            eventsMapID = state.eventsMapID
            if state.exists { log(try state.seed()) }
            watchSurroundings()
        } catch {
            for id in new { try? state.detach(id, path: "cgroup \(id)") }
            throw error
        }
    }

    /// Nil while there is no such cgroup.
    ///
    /// - Throws: `CgroupError` for a name that can never be one's.
    private func existing(
        _ name: String, in hierarchy: CgroupHierarchy
    ) throws(CgroupError) -> Cgroup? {
        do throws(CgroupError) {
            return try Cgroup(name, in: hierarchy)
        } catch .missing {
            return nil
        }
    }

    /// - Returns: whether it had no guard before.
    private func attachOrAdopt(_ cgroup: Cgroup) throws -> Bool {
        let policy = configuration.policy
        do {
            try state.attach(cgroup, policy: policy, tableSize: configuration.tableSize)
            logger.info("guarding \(cgroup.path) (\(policy.mode.rawValue))")
            return true
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
            return false
        }
    }

    /// What the command attached without us is looked after too.
    private func adoptOthers(in hierarchy: CgroupHierarchy) throws {
        guard state.exists else { return }
        for attachment in try state.attachments() {
            guard !guardedIDs.contains(attachment.id), let path = attachment.path,
                let cgroup = try? Cgroup(path, in: hierarchy), cgroup.id == attachment.id
            else { continue }
            let upgraded = try state.upgrade(attachment, of: cgroup)
            logger.info("adopted \(cgroup.path)\(upgraded ? ", and upgraded its programs" : "")")
        }
    }

    // MARK: - Another configuration

    /// Takes over another configuration: cgroups that it does not name are let go, and the others
    /// get its policy. Those that are new to it are for the next round.
    ///
    /// - Throws: what is wrong with it; nothing has changed then.
    mutating func change(to new: GuardConfiguration) throws {
        let hierarchy = try CgroupHierarchy()
        let named = Set(try new.cgroups.compactMap { try existing($0, in: hierarchy)?.id })
        if let asked = new.tableSize, state.exists {
            let existing = try state.tableSize()
            if asked != existing {
                throw GuardError.tableSizeFixed(existing: existing, asked: asked)
            }
        }
        if state.exists { try state.requirePorts(new.policy.ports, for: named) }
        if new.metrics != configuration.metrics { throw AgentError.metricsAreFixed }
        let hasNewPolicy = new.policy != configuration.policy
        configuration = new
        for (name, condition) in conditions where !new.cgroups.contains(name) {
            conditions[name] = nil
            guard let id = condition.id, !named.contains(id) else { continue }
            do {
                try state.detach(id, path: name)
                logger.info(
                    "no longer guarding \(printable(name)), which is not configured any more")
            } catch {
                logger.error("letting go of \(printable(name)): \(error)")
            }
        }
        // Met as if for the first time, each gets the policy and keeps its claims.
        if hasNewPolicy {
            for name in new.cgroups where conditions[name]?.id != nil { conditions[name] = nil }
        }
    }

    // MARK: - Each round

    /// Compares what is attached with what should be, and makes it so.
    ///
    /// - Returns: whether another ring buffer is pinned than before.
    /// - Throws: `AgentError.detached` where the agent was told to give up then; other faults are
    ///   logged, each once, and met again in the next round.
    mutating func reconcile() throws -> Bool {
        var faults: [String] = []
        do {
            let hierarchy = try CgroupHierarchy()
            let attached = state.exists ? try state.attachments() : []
            let live = Set(attached.lazy.filter(\.isAttached).map(\.id))
            for name in configuration.cgroups {
                do {
                    try reconcile(name, in: hierarchy, live: live)
                } catch let error where !isToEnd(error) {
                    conditions[name] = .failed(why: "\(error)")
                    faults.append("\(error)")
                }
            }
            try removeVanished(attached)
            try watchFilling()
        } catch let error where !isToEnd(error) {
            faults.append("\(error)")
        }
        say(faults)
        let known = eventsMapID
        eventsMapID = state.eventsMapID
        return eventsMapID != known
    }

    private func isToEnd(_ error: any Error) -> Bool {
        if case AgentError.detached = error { true } else { false }
    }

    private mutating func reconcile(
        _ name: String, in hierarchy: CgroupHierarchy, live: Set<UInt64>
    ) throws {
        let known = conditions[name]?.id
        guard let cgroup = try existing(name, in: hierarchy) else {
            guard conditions[name] != .missing else { return }
            logger.notice("\(name) is gone; it will be guarded again when it is back")
            conditions[name] = .missing
            if let known { try? state.detach(known, path: name) }
            return
        }
        if cgroup.id == known {
            if live.contains(cgroup.id) { return }
            try noticeDetached(cgroup)
        }
        _ = try attachOrAdopt(cgroup)
        conditions[name] = .guarded(id: cgroup.id)
        if let known, known != cgroup.id { try? state.detach(known, path: name) }
        log(try state.seed())
    }

    /// Somebody took the guard off a cgroup that is there still.
    private func noticeDetached(_ cgroup: Cgroup) throws(AgentError) {
        if configuration.onDetach == .fail { throw .detached(path: cgroup.path) }
        logger.warning(
            "somebody took the guard off \(cgroup.path): since the last look, a few seconds ago, nothing was refused there; attaching it again (who wants it off stops the agent first)"
        )
        // Pins whose links were ended are in the way of new ones.
        try? state.detach(cgroup.id, path: cgroup.path)
    }

    /// Says once what goes wrong, and once that it no longer does.
    private mutating func say(_ faults: [String]) {
        let fault = faults.isEmpty ? nil : faults.joined(separator: "; ")
        if let fault, fault != lastFault {
            logger.error("looking after the guarded cgroups: \(fault)")
        } else if fault == nil && lastFault != nil {
            logger.notice("looking after the guarded cgroups works again, \(summary)")
        }
        lastFault = fault
    }

    /// Pins of cgroups that exist no more hold nothing but memory.
    private func removeVanished(_ attached: [Attachment]) throws {
        // Ours stay until they are back: the shared maps live as long as one attachment does.
        let ours = guardedIDs
        for attachment in attached where !attachment.isAttached && !ours.contains(attachment.id) {
            do {
                try state.detach(attachment.id, path: "cgroup \(attachment.id)")
            } catch GuardError.notAttached {
                continue  // was removed meanwhile
            }
        }
    }

    /// Says once that the table runs short and by whom, and once that it is over.
    private mutating func watchFilling() throws {
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

    private mutating func log(_ seeded: Seeded) {
        if let unseen = seeded.unseen, unseen != lastUnseen { logger.warning("\(unseen)") }
        lastUnseen = seeded.unseen
        if seeded.claimed > 0 || seeded.conflicts > 0 || seeded.unclaimed > 0 {
            logger.info(
                "seeded the claim table: \(amount(seeded.claimed, "socket", "has", "have")) a claim now, \(grouped(seeded.known)) had one, \(grouped(seeded.conflicts)) had another one's tuple, \(grouped(seeded.unclaimed)) went without"
            )
        }
        if seeded.overShare > 0 {
            logger.notice(
                "\(amount(seeded.overShare, "connected socket")) outside the guarded cgroups without a claim: such get a quarter of the table at most"
            )
        }
    }

    // MARK: - Now and then

    /// Drops claims without a socket, and claims for sockets that have none.
    mutating func sweep() {
        guard state.exists else { return }
        watchSurroundings()
        do {
            let swept = try state.sweep()
            if swept.dropped > 0 || swept.records > 0 {
                logger.info(
                    "swept: of \(amount(swept.claims, "claim")) \(grouped(swept.dropped)) had no socket; \(amount(swept.records, "record")) freed"
                )
            }
            let seeded = try state.seed(after: swept, again: true)
            if let unseen = seeded.unseen, unseen != lastUnseen { logger.warning("\(unseen)") }
            lastUnseen = seeded.unseen
            if configuration.onShadow == .destroy { try endNewcomers() }
        } catch {
            logger.error("sweeping: \(error)")
        }
    }

    /// Says once of each program that runs after a guard, and may send sockets where it does not
    /// see them, that it is there, and once that it no longer is; the same of privileged ports.
    private mutating func watchSurroundings() {
        guard state.exists, let attachments = try? state.attachments(),
            let found = try? state.remarks(on: attachments)
        else { return }
        let now = Set(found).union(attachments.compactMap { $0.policy.portRemark() })
        for remark in now.subtracting(remarks).sorted() { logger.warning("\(printable(remark))") }
        for remark in remarks.subtracting(now).sorted() {
            logger.notice("no longer so: \(printable(remark))")
        }
        remarks = now
    }

    private func endNewcomers() throws {
        let shadows = try state.conflicts().map(\.last).filter { $0.reason == .shadow }
        for ended in Newcomers.end(of: shadows) {
            logger.notice("ended a socket that had come to another's tuple: \(ended)")
        }
    }

    // MARK: - The end

    /// Takes the guard off, if that was asked for.
    func end() {
        guard configuration.detachOnExit else { return }
        for id in guardedIDs {
            do {
                try state.detach(id, path: "cgroup \(id)")
            } catch {
                logger.error("detaching: \(error)")
            }
        }
        logger.info("detached")
    }
}
