// SPDX-License-Identifier: Apache-2.0
// Claims for sockets that exist already.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardLinux
package import TupleguardSockets

/// What seeding the claim table found.
package struct Seeded: Sendable, Equatable {
    /// Connected sockets that have a claim from now on.
    package var claimed = 0
    /// Sockets that had one, or for which another one's stands: outsiders may share a tuple.
    package var known = 0
    /// Sockets that share their tuple with another, which `conflicts` shows.
    package var conflicts = 0
    /// Sockets that the table had no room for, in whose way another one's claim is, or that were
    /// closed meanwhile.
    package var unclaimed = 0
    /// Sockets outside the guarded cgroups that went without, because such have their share
    /// already.
    package var overShare = 0
    /// Network namespaces that could not be looked into, and why the last of them could not.
    package var unseenNamespaces = 0
    package var whyUnseen: Errno?

    mutating func add(_ results: some Sequence<UInt8>) {
        for result in results {
            switch UInt32(result) {
            case TG_SEEDED_CLAIMED.rawValue: claimed += 1
            case TG_SEEDED_KNOWN.rawValue: known += 1
            case TG_SEEDED_CONFLICT.rawValue: conflicts += 1
            case TG_SEEDED_OVER_SHARE.rawValue: overShare += 1
            default: unclaimed += 1
            }
        }
    }

    /// What could not be seen, in a sentence; nil where all was.
    package var unseen: String? {
        guard unseenNamespaces > 0 else { return nil }
        let why = whyUnseen.map { " (\($0))" } ?? ""
        return
            "\(amount(unseenNamespaces, "network namespace")) or more could not be looked into\(why): sockets that were connected there before have no claim; it takes CAP_SYS_ADMIN and CAP_SYS_PTRACE, and setns(2)"
    }

    static func + (a: Seeded, b: Seeded) -> Seeded {
        Seeded(
            claimed: a.claimed + b.claimed, known: a.known + b.known,
            conflicts: a.conflicts + b.conflicts, unclaimed: a.unclaimed + b.unclaimed,
            overShare: a.overShare + b.overShare,
            unseenNamespaces: a.unseenNamespaces + b.unseenNamespaces,
            whyUnseen: b.whyUnseen ?? a.whyUnseen)
    }

}

extension GuardState {
    /// Of so many parts of the table sockets outside the guarded cgroups get one: anyone may open
    /// sockets, and those of the guarded cgroups are what the table is for.
    static let outsidersPart = 4

    /// Claims for connected UDP sockets that have no claim yet: all of the guarded cgroups', and
    /// those of others in the network namespaces where guarded sockets can meet them.
    ///
    /// - Parameter swept: what the sweep has found that has to come first: it tells how many claims
    ///   outsiders have, and gives back those that nobody stands behind.
    /// - Parameter again: it was done before, so two sockets that are found to share a tuple came
    ///   to it past the guard: a conflict for the reason `shadow` instead of `existing`.
    @discardableResult
    package func seed(after swept: Swept, again: Bool) throws -> Seeded {
        let share = try tableSize() / Self.outsidersPart
        let began = KernelClock.monotonic
        let seeded = try Seeder(self).seed(
            roomForOutsiders: max(0, share - swept.outsiders), again: again)
        // A claim that outlives its owner for those beside it goes when nobody was found there.
        try BPFMap(pinned: map(.seeded)).write(began, at: UInt32(0))
        return seeded
    }

    /// Sweeps and seeds.
    @discardableResult
    package func seed(again: Bool = false) throws -> Seeded {
        try seed(after: sweep(), again: again)
    }

    /// Programs that work on the whole table; not pinned: whoever needs them loads them.
    func loadMaintenance(_ set: ProgramSet) throws(GuardError) -> LoadedPrograms {
        let size = try tableSize()
        var policy = tg_policy()
        policy.grace_ns = Policy.graceNanoseconds
        policy.table_mask = UInt32((fewBuckets ?? Self.buckets(for: size)) - 1)
        return try LoadedPrograms(set, policy: policy, tableSize: size) { name in
            MapName.shared.contains(name) ? map(name) : nil
        }
    }
}

/// The programs of seeding, loaded.
struct Seeder: ~Copyable {
    /// Passes over one network namespace: before 6.6 one that is read in pieces may skip sockets
    /// when others go meanwhile (udp_seq_start counts its way back), so there is another until
    /// nothing new is found.
    private static let passes = 16
    /// Whatever has fewer connected sockets is not read in pieces at all.
    static let pieceSize = 16384

    private let programs: LoadedPrograms

    init(_ state: GuardState) throws(GuardError) {
        let programs = try state.loadMaintenance(.seed)
        try Iterator(programs.program("seed_tasks")).run { _ in }
        self.programs = programs
    }

    func seed(roomForOutsiders room: Int, again: Bool) throws -> Seeded {
        var seeded = Seeded()
        for outsiders in [false, true] {
            try begin(outsiders: outsiders, room: room, again: again)
            // The files of processes first: they tell whose each socket is.
            try Iterator(programs.program("seed_files")).run { seeded.add($0) }
            seeded = seeded + (try seedNamespaces())
        }
        return seeded
    }

    /// What follows is about sockets of guarded cgroups, or about others, which get so many claims.
    func begin(outsiders: Bool, room: Int = 0, again: Bool) throws(GuardError) {
        var seeding = tg_seeding(
            outsiders: outsiders ? 1 : 0, again: again ? 1 : 0, room: UInt64(room))
        var zero: UInt32 = 0
        let map = programs.map(named: "seeding")
        try perform("begin to seed") { bpf_map_update_elem(map, &zero, &seeding, 0) }
    }

    /// Also finds sockets that no process has open just now.
    func seedNamespaces(pieceSize: Int = Self.pieceSize) throws -> Seeded {
        let iterator = try Iterator(programs.program("seed_sockets"))
        let link = iterator.link.raw
        let guarded = programs.map(named: "guarded_namespaces")
        var seeded = Seeded()
        let all = NetworkNamespace.find()
        if all.hasHidden {
            seeded.unseenNamespaces += 1
            seeded.whyUnseen = Errno(EACCES)
        }
        for namespace in all.namespaces {
            do {
                seeded =
                    try seeded
                    + NetworkNamespace.inside(path: namespace.path) {
                        try Self.isGuarded(ownNamespaceIn: guarded)
                            ? Self.seedNamespace(link, pieceSize) : Seeded()
                    }
            } catch let error as Errno {
                // One may go while we look; its sockets are gone too then.
                guard NetworkNamespace(path: namespace.path) != nil else { continue }
                seeded.unseenNamespaces += 1
                seeded.whyUnseen = error
            }
        }
        _ = iterator
        return seeded
    }

    private static func isGuarded(ownNamespaceIn map: Int32) throws -> Bool {
        // Any socket will do. The service may have no other.
        let probe = try OwnedDescriptor {
            socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let cookie = try SocketOption.networkNamespaceCookie.get(probe.raw)
        var key = UInt32(truncatingIfNeeded: cookie)
        var value: UInt8 = 0
        return bpf_map_lookup_elem(map, &key, &value) == 0
    }

    private static func seedNamespace(
        _ link: Int32, _ pieceSize: Int
    ) throws(GuardError) -> Seeded {
        var seeded = Seeded()
        for _ in 0..<passes {
            let pass = try seedOnce(link, pieceSize)
            seeded = seeded + pass
            if pass.claimed == 0 { break }
        }
        return seeded
    }

    private static func seedOnce(_ link: Int32, _ pieceSize: Int) throws(GuardError) -> Seeded {
        var pass = Seeded()
        try Iterator.run(link: link, pieceSize: pieceSize) { pass.add($0) }
        return pass
    }
}
