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

extension GuardState {
    /// The only other layout that is known, as far as it is needed here: the version before's.
    static let olderABI: UInt32 = 2

    /// Takes over the guard that the version before has pinned here, with its policies, and with no
    /// moment in which connects go unguarded.
    ///
    /// - Returns: the paths of its cgroups; nil where no such guard is pinned.
    package func takeOver() throws -> [String]? {
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
            let programs = try staged.loadHooks(
                for: cgroup, policy: olderPolicy(of: cgroup.id), tableSize: size,
                keepingCounters: false)
            if !staged.exists {
                try pinSharedMaps(of: programs, tableSize: size, in: staged.mapsFolder)
            }
            try pin(programs, of: cgroup, in: staged.attachmentFolder(cgroup.id))
        }
        guard staged.exists else { return }
        try staged.settleOutsiders()
        try staged.seed()
        // A connect that passed the old guard alone may not have been over yet. Once its grace
        // period is, nobody has a claim to it.
        usleep(UInt32(Policy.graceNanoseconds / 1000))
        try staged.seed()
    }

    private func olderPolicy(of id: UInt64) throws(GuardError) -> Policy {
        let path = "\(attachmentFolder(id))/policy"
        guard let older = try BPFMap(pinned: path).element(0, as: tg_policy_abi2.self) else {
            throw .damagedState(path: path, why: "it has another size")
        }
        return Policy(fromOlderPrograms: older)
    }

    /// Ends the old guard. What remains of it where this is interrupted is removed by whoever
    /// changes something next.
    private func putInPlace(_ cgroups: [Cgroup]) throws(GuardError) {
        func move(_ from: String, _ to: String) throws(GuardError) {
            try perform("move \(folder)/\(from) to \(to)") {
                rename("\(folder)/\(from)", "\(folder)/\(to)")
            }
        }
        let ids = attachmentIDs
        try move("maps", "old-maps")
        if access("\(folder)/new-maps", F_OK) == 0 { try move("new-maps", "maps") }
        if access("\(folder)/new-outside", F_OK) == 0 { try move("new-outside", "outside") }
        for id in ids {
            try move("cgroup-\(id)", "old-\(id)")
            if cgroups.contains(where: { $0.id == id }) { try move("new-\(id)", "cgroup-\(id)") }
        }
        removeFolders { $0.hasPrefix("old-") }
    }
}
