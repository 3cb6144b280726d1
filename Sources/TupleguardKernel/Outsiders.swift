// SPDX-License-Identifier: Apache-2.0
// Sockets outside of all guarded cgroups: the programs at the root that see
// them, one set for all attachments, there as long as one of these wants it.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

extension Policy {
    /// What becomes of sockets outside of all guarded cgroups.
    package enum Outsiders: String, CaseIterable, Sendable {
        /// They claim their tuples too, which guarded sockets are then refused; nothing changes
        /// for them. Those that overshadow a guarded socket are reported.
        case observe
        /// And they are refused a tuple that a guarded socket holds.
        case refuse
        /// Nothing is done about them.
        case ignore

        var number: UInt32 {
            switch self {
            case .observe: TG_OUTSIDERS_OBSERVE.rawValue
            case .refuse: TG_OUTSIDERS_REFUSE.rawValue
            case .ignore: TG_OUTSIDERS_IGNORE.rawValue
            }
        }
    }

    /// What an outsider meets: a guard that only observes refuses nobody.
    fileprivate var side: tg_side {
        var side = tg_side()
        side.outsiders = (mode == .observe && outsiders == .refuse ? .observe : outsiders).number
        side.error = UInt32(refusal.number)
        return side
    }
}

extension Hook {
    /// Those on which outsiders are seen.
    static let outer: [Hook] = [.release, .connect6, .connect4]

    /// The program for sockets outside, and its pinned link.
    var outerName: String { "outer_" + rawValue.dropFirst("guard_".count) }

    /// The hook of the link that is pinned under that name.
    init?(pin name: String) {
        guard
            let hook = Hook(rawValue: name) ?? Hook.outer.first(where: { $0.outerName == name })
        else { return nil }
        self = hook
    }
}

/// The programs at the root, as they are pinned.
package struct OutsidersAttachment: Sendable {
    /// Of the cgroup that they are attached to; nil when it is gone.
    package let path: String?
    package let programs: [ProgramInfo]
    /// `observed` and `refused_outsider` are the outsiders that met a guarded socket's tuple.
    package let counters: Counters
}

extension GuardState {
    var outsidersFolder: String { "\(folder)/\(isStaged ? "new-outside" : "outside")" }

    /// The programs at the root; nil when there are none.
    package func outsidersAttachment() throws -> OutsidersAttachment? {
        guard access(outsidersFolder, F_OK) == 0 else { return nil }
        let hierarchy = try CgroupHierarchy()
        var programs: [ProgramInfo] = []
        var path: String?
        for hook in Hook.outer.reversed() {
            let link = try Link(pinned: "\(outsidersFolder)/\(hook.outerName)")
            programs.append(try link.program(of: hook))
            path = link.cgroupID == 0 ? nil : hierarchy.path(of: link.cgroupID)
        }
        let counters = try BPFMap(pinned: "\(outsidersFolder)/counters")
        return OutsidersAttachment(
            path: path, programs: programs,
            counters: Counters(perCPU: counters.perCPUElement(0, as: tg_counters.self)))
    }

    /// Where sockets of every cgroup are seen.
    func root() throws -> Cgroup {
        let hierarchy = try CgroupHierarchy()
        return try Cgroup(outermost ?? hierarchy.mountPoint, in: hierarchy)
    }

    /// Why no program can be attached beside those of the root; nil when one can.
    package func obstacleAtRoot() throws -> String? {
        if access(outsidersFolder, F_OK) == 0 { return nil }
        let root = try root()
        for hook in Hook.outer {
            let there = try AttachedPrograms(at: root, hook)
            if there.toleratesNoOther {
                return
                    "\(hook.title) of \(root.path) has \(there.description), attached so that it allows no other beside it"
            }
            if there.ids.count >= AttachedPrograms.limit {
                return "\(hook.title) of \(root.path) has \(there.ids.count) programs already"
            }
        }
        return nil
    }

    /// Brings what the attachments have in common in line with them. Under the lock.
    ///
    /// - Parameters:
    ///   - leaving: the attachment that is about to go.
    ///   - renewing: whether programs that are there are replaced by this version's.
    func settle(leaving: UInt64? = nil, renewing: Bool = false) throws {
        var policies: [UInt64: Policy] = [:]
        for id in attachmentIDs where id != leaving {
            let policy = try BPFMap(pinned: "\(attachmentFolder(id))/policy")
            guard let values = policy.element(0, as: tg_policy.self) else { continue }
            policies[id] = Policy(fromPrograms: values)
        }
        try keepPorts(policies.values.compactMap(\.ports))
        try settleOutsiders(policies, renewing: renewing)
    }

    /// Tells the guards which ports are a cgroup's own: they give them to nobody else.
    private func keepPorts(_ ranges: [ClosedRange<UInt16>]) throws {
        var kept = tg_kept_ports()
        withUnsafeMutableBytes(of: &kept) { bytes in
            let words = bytes.bindMemory(to: UInt64.self)
            for port in ranges.joined() { words[Int(port) / 64] |= 1 << (UInt64(port) % 64) }
        }
        try BPFMap(pinned: map(.keptPorts)).write(kept, at: UInt32(0))
    }

    /// Brings the programs at the root in line with what is attached.
    private func settleOutsiders(_ policies: [UInt64: Policy], renewing: Bool) throws {
        let root = try root()
        var sides = policies.mapValues(\.side)
        for id in sides.keys { sides[id]?.guard = id }
        for id in try idsBelowPorts(policies) { sides[id | TG_CHOSEN_ABOVE] = tg_side() }
        try write(sides)
        let isWanted = sides.values.contains { $0.outsiders >= TG_OUTSIDERS_OBSERVE.rawValue }
        if !isWanted || sides[root.id] != nil {
            removeOutsiders()
        } else if access(outsidersFolder, F_OK) != 0 {
            // Where that can't be, the guards look each tuple up.
            if try obstacleAtRoot() == nil { try attachOutsiders(to: root) }
        } else if renewing {
            try renewOutsiders(at: root)
        }
    }

    /// Guards without ports of their own, below a cgroup that has some: its guard chooses, or
    /// sockets below would have ports from anywhere.
    private func idsBelowPorts(_ policies: [UInt64: Policy]) throws -> [UInt64] {
        let owners = policies.filter { $0.value.ports != nil && $0.value.mode != .observe }
        if owners.isEmpty { return [] }
        let hierarchy = try CgroupHierarchy()
        let above = owners.keys.compactMap { hierarchy.path(of: $0) }
        return policies.keys.filter { id in
            guard policies[id]?.ports == nil, let path = hierarchy.path(of: id) else {
                return false
            }
            return above.contains { Cgroup.isPath(path, atOrBelow: $0) }
        }
    }

    /// Tells the programs which cgroups are guarded.
    private func write(_ sides: [UInt64: tg_side]) throws {
        let guarded = try BPFMap(pinned: map(.guarded))
        var gone: [UInt64] = []
        try guarded.forEach(UInt64.self, tg_side.self) { id, _ in
            if sides[id] == nil { gone.append(id) }
        }
        for id in gone { try guarded.remove(id) }
        for (id, side) in sides { try guarded.write(side, at: id) }
        // The new generation comes last: with it what was known of a cgroup is forgotten.
        let strongest = try BPFMap(pinned: map(.strongest))
        var all = sides.values.max { $0.outsiders < $1.outsiders } ?? tg_side()
        all.generation = (strongest.element(0, as: tg_side.self)?.generation ?? 0) + 1
        try strongest.write(all, at: UInt32(0))
    }

    private func loadOutsiders(
        at root: Cgroup, keepingCounters: Bool
    ) throws(GuardError) -> LoadedPrograms {
        let size = Int(try readABI().table_size)
        let values = Policy().forPrograms(
            cgroup: root, buckets: fewBuckets ?? Self.buckets(for: size), looksUp: false)
        return try LoadedPrograms(.outsiders, policy: values, tableSize: size) { name in
            if name == .counters && keepingCounters { return "\(outsidersFolder)/counters" }
            return MapName.shared.contains(name) ? map(name) : nil
        }
    }

    private func attachOutsiders(to root: Cgroup) throws {
        let temporary = "\(folder)/new-outside-links"
        let programs = try loadOutsiders(at: root, keepingCounters: false)
        let counters = programs.map(.counters)
        do {
            try perform("make the folder \(temporary)") { mkdir(temporary, 0o750) }
            try perform("pin the counters") { bpf_obj_pin(counters, "\(temporary)/counters") }
            for hook in Hook.outer {
                let link = try Link(
                    attaching: programs.program(hook.outerName), to: root, at: hook)
                try link.pin("\(temporary)/\(hook.outerName)")
            }
            try perform("move \(temporary) into place") { rename(temporary, outsidersFolder) }
        } catch {
            removeFolder(temporary)
            throw error
        }
    }

    /// Gives the links this version's programs, if they differ, and a place behind whatever
    /// was attached after them.
    private func renewOutsiders(at root: Cgroup) throws {
        let programs = try loadOutsiders(at: root, keepingCounters: true)
        for hook in Hook.outer {
            try putInPlace(
                programs.program(hook.outerName), at: hook, of: root,
                pin: "\(outsidersFolder)/\(hook.outerName)")
        }
    }

    func removeOutsiders() {
        let old = "\(folder)/old-outside"
        if rename(outsidersFolder, old) == 0 { removeFolder(old) }
    }
}
