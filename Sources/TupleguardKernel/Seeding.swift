// SPDX-License-Identifier: Apache-2.0
// Claims for sockets that exist already.

import CTupleguardLibbpf
import TupleguardABI
import TupleguardLinux

/// What seeding the claim table found.
package struct Seeded: Sendable, Equatable {
    /// Connected sockets that have a claim from now on.
    package var claimed = 0
    /// Sockets that had one.
    package var known = 0
    /// Sockets whose tuple another socket has claimed.
    package var conflicts = 0
    /// Sockets that the table had no room for, or that were closed meanwhile.
    package var unclaimed = 0

    mutating func add(_ results: some Sequence<UInt8>) {
        for result in results {
            switch UInt32(result) {
            case TG_SEEDED_CLAIMED.rawValue: claimed += 1
            case TG_SEEDED_KNOWN.rawValue: known += 1
            case TG_SEEDED_CONFLICT.rawValue: conflicts += 1
            default: unclaimed += 1
            }
        }
    }
}

extension GuardState {
    /// Claims for every connected UDP socket of the host that has no claim yet.
    ///
    /// Goes over the files of all processes first, which tells whose each
    /// socket is, then over the sockets of every network namespace, which also
    /// finds those that no process has open just now.
    @discardableResult
    package func seed() throws -> Seeded {
        let programs = try loadMaintenance(.seed)
        var seeded = Seeded()
        try Iterator(programs.program("seed_files")).run { seeded.add($0) }
        let sockets = try Iterator(programs.program("seed_sockets"))
        let link = sockets.link.raw
        for path in NetworkNamespaces.paths() {
            // A namespace may go while we look; its sockets are gone too then.
            let found = try? NetworkNamespaces.inside(path: path) {
                var found: [UInt8] = []
                try Iterator.run(link: link) { found += $0 }
                return found
            }
            seeded.add(found ?? [])
        }
        _ = sockets
        return seeded
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
