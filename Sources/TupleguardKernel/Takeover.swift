// SPDX-License-Identifier: Apache-2.0
// Taking over from an older version whose maps have another layout.
//
// Its guard stays until the new one can do without it: the new one is attached beside it, on maps
// of its own, so that every connect needs the consent of both; then claims are seeded for the
// sockets that are there; then the old one is detached. Counters and conflicts begin anew.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

extension GuardState {
    /// The only other layout that is known, as far as it is needed here: the version before's.
    static let olderABI: UInt32 = 3

    /// Takes over the guard that the version before has pinned here, with its policies, and with no
    /// moment in which connects go unguarded.
    ///
    /// - Returns: the paths of its cgroups; nil where no such guard is pinned.
    package func takeOver() throws -> [String]? {
        if access(takingOver, F_OK) == 0 { try changing {} }
        guard isOlder else { return nil }
        try Platform.check()
        return try changing { () -> [String]? in
            guard isOlder else { return nil }  // somebody else was quicker
            let hierarchy = try CgroupHierarchy()
            let cgroups = attachmentIDs.compactMap { id in
                hierarchy.path(of: id).flatMap { try? Cgroup($0, in: hierarchy) }
            }
            do {
                try attachBeside(cgroups)
            } catch {
                removeFolders { $0.hasPrefix("new-") }
                throw error
            }
            try putInPlace(cgroups)
            return cgroups.map(\.path)
        }
    }

    private var isOlder: Bool { exists && (try? pinnedInfo().abi) == Self.olderABI }

    /// Attaches the new guard, and has it know what the old one knows.
    private func attachBeside(_ cgroups: [Cgroup]) throws {
        let size = Int(try pinnedInfo().table_size)
        guard GuardError.tableSizes.contains(size) else {
            throw GuardError.damagedState(path: folder, why: "its table has \(size) entries")
        }
        var staged = self
        staged.isStaged = true
        for cgroup in cgroups {
            let policy = try olderPolicy(of: cgroup.id)
            let programs = try staged.loadHooks(
                for: cgroup, policy: policy, tableSize: size, keepingCounters: false)
            if !staged.exists {
                try pinSharedMaps(of: programs, tableSize: size, in: staged.mapsFolder)
            }
            try pin(
                programs, Hook.needed(by: policy), of: cgroup,
                in: staged.attachmentFolder(cgroup.id))
        }
        guard staged.exists else { return }
        try staged.settle()
        try staged.seed()
        // A connect that passed the old guard alone may not have been over yet. Once its grace
        // period is, nobody has a claim to it.
        usleep(UInt32(Policy.graceNanoseconds / 1000))
        try staged.seed()
    }

    private func olderPolicy(of id: UInt64) throws(GuardError) -> Policy {
        let path = "\(attachmentFolder(id))/policy"
        guard let older = try BPFMap(pinned: path).element(0, as: tg_policy_abi3.self) else {
            throw .damagedState(path: path, why: "it has another size")
        }
        return Policy(fromOlderPrograms: older)
    }

    /// There once the new guard is complete, and until it is in the old one's place.
    private var takingOver: String { "\(folder)/taking-over" }

    /// Puts the new guard into the old one's place, and ends the old one. Under the lock.
    private func putInPlace(_ cgroups: [Cgroup]) throws(GuardError) {
        // What the old one has of cgroups that are gone has no successor.
        let gone = attachmentIDs.filter { id in !cgroups.contains { $0.id == id } }
        removeFolders { name in gone.contains { name == "cgroup-\($0)" } }
        try perform("make the folder \(takingOver)") { mkdir(takingOver, 0o750) }
        try finishTakeOver()
    }

    /// Does what is left of a takeover, wherever it was interrupted; nothing where there is none.
    /// Under the lock.
    func finishTakeOver() throws(GuardError) {
        guard access(takingOver, F_OK) == 0 else { return }
        var left = movesBeforeCrash ?? .max
        func move(_ from: String, _ to: String) throws(GuardError) {
            guard access("\(folder)/\(from)", F_OK) == 0 else { return }
            left -= 1
            if left < 0 { throw .failed(what: "go on", errno: Errno(EINTR), detail: "") }
            try perform("move \(folder)/\(from) to \(to)") {
                rename("\(folder)/\(from)", "\(folder)/\(to)")
            }
        }
        // The old one's part is there still where the new one's has not moved; maps also where the
        // old one had no cgroup left, and so no successor.
        if isOlder {
            try move("outside", "old-outside")
            try move("maps", "old-maps")
        }
        try move("new-maps", "maps")
        try move("new-outside", "outside")
        for name in names(in: folder).sorted() where name.hasPrefix("new-") {
            guard let id = UInt64(name.dropFirst("new-".count)) else { continue }
            try move("cgroup-\(id)", "old-\(id)")
            try move(name, "cgroup-\(id)")
        }
        removeFolders { $0.hasPrefix("old-") }
        rmdir(takingOver)
    }
}
