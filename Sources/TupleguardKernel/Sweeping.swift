// SPDX-License-Identifier: Apache-2.0
// The end of claims and records whose socket is gone.

import TupleguardABI

/// What a sweep found.
package struct Swept: Sendable, Equatable {
    /// Claims looked at.
    package var claims = 0
    /// Claims dropped because no socket holds them.
    package var dropped = 0
    /// Records freed whose socket is gone, with the claims that they were for.
    package var records = 0
    /// Sockets outside the guarded cgroups that have a record, and are there.
    package var outsiders = 0
    /// Claims whose socket was sent to another destination after the guard had seen it.
    package var rewritten = 0

    mutating func add(_ results: some Sequence<UInt8>) {
        for result in results {
            switch UInt32(result) {
            case TG_SWEPT_CLAIM.rawValue: claims += 1
            case TG_SWEPT_DROPPED.rawValue:
                claims += 1
                dropped += 1
            case TG_SWEPT_RECORD.rawValue: records += 1
            case TG_SWEPT_OUTSIDER.rawValue: outsiders += 1
            case TG_SWEPT_REWRITTEN.rawValue:
                claims += 1
                rewritten += 1
            default: break
            }
        }
    }
}

/// The programs of the sweep, loaded.
struct Sweeper: ~Copyable {
    private let programs: LoadedPrograms

    init(_ state: GuardState) throws(GuardError) {
        programs = try state.loadMaintenance(.sweep)
    }

    /// Drops claims and records that no socket stands behind any more.
    func sweep() throws(GuardError) -> Swept {
        var swept = Swept()
        for name in MapName.swept {
            let iterator = try Iterator(
                programs.program("sweep_\(name.rawValue)"), over: programs.map(name))
            // What goes from a hash map's bucket while a piece ends inside it makes the next piece
            // begin too late (bpf_hash_map_seq_find_next): another pass finds what was missed.
            for _ in 0..<4 {
                var pass = Swept()
                try iterator.run { pass.add($0) }
                swept.claims += pass.claims
                swept.dropped += pass.dropped
                swept.records += pass.records
                guard MapName.sized.contains(name), pass.dropped + pass.records > 0 else {
                    swept.outsiders += pass.outsiders
                    swept.rewritten += pass.rewritten
                    break
                }
            }
        }
        return swept
    }
}

extension GuardState {
    /// Drops claims and records that no socket stands behind any more.
    ///
    /// Goes over the whole table in small pieces, so that no processor is held for long.
    @discardableResult
    package func sweep() throws(GuardError) -> Swept {
        try Sweeper(self).sweep()
    }
}
