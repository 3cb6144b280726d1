// SPDX-License-Identifier: Apache-2.0
// How full the claim table is, and who fills it.

import Glibc
import TupleguardABI
package import TupleguardLinux

/// A program, and how many of the claims are its.
package struct ClaimOwner: Hashable, Sendable {
    /// In the initial PID namespace; 0 for sockets that were connected before they were seen.
    package let pid: Int32
    /// The first 15 bytes of its name, unprintable ones as "?".
    package let command: String
    /// Nil when the process is gone.
    package let uid: UInt32?
    /// Its cgroup's path, nil when the process is gone.
    package let cgroup: String?
    package let claims: Int

    /// The pod of Kubernetes that it is in.
    package var pod: Pod? { cgroup.flatMap(PodNames.system.pod) }

    /// "python3 (pid 4711, uid 1000, /user.slice): 76,000 claims"
    package var description: String {
        let user = uid.map { ", uid \($0)" } ?? ""
        let place = cgroup.map { ", \(placeName(ofCgroup: $0))" } ?? ""
        return pid == 0
            ? "sockets of unknown programs: \(amount(claims, "claim"))"
            : "\(command) (pid \(pid)\(user)\(place)): \(amount(claims, "claim"))"
    }
}

extension GuardState {
    /// From here on programs that hold most of the table get no more, and those are named.
    package static let nearlyFull = 0.8

    /// How much is used of what everybody may use: 1 and more when the table runs short.
    ///
    /// Counted are the claims that overflowed into the maps of limited size.
    package func filling() throws -> Double {
        guard let use = try open(.usage).element(0, as: tg_usage.self) else {
            throw GuardError.damagedState(path: folder, why: "its usage has another size")
        }
        return use.filling
    }

    /// The programs with most claims, the one with most first.
    package func largestOwners(_ count: Int) throws -> [ClaimOwner] {
        try claimCountAndOwners(count).owners
    }

    /// How many claims there are, and the programs with most of them, of one reading of the table.
    package func claimCountAndOwners(_ most: Int) throws -> (claims: Int, owners: [ClaimOwner]) {
        var counts: [UInt32: (command: String, claims: Int)] = [:]
        try forEachClaim { _, claim in
            counts[claim.pid, default: (claim.command, 0)].claims += 1
        }
        let owners = counts.sorted { $0.value.claims > $1.value.claims }.prefix(most).map {
            let pid = Int32(bitPattern: $0.key)
            return ClaimOwner(
                pid: pid, command: $0.value.command, uid: Proc.system.user(of: pid),
                cgroup: Proc.system.cgroup(of: pid), claims: $0.value.claims)
        }
        return (counts.values.reduce(0) { $0 + $1.claims }, owners)
    }
}

extension tg_usage {
    init(tableSize: Int) {
        func size(_ name: MapName) -> UInt64 { UInt64(name.elements(tableSize: tableSize)) }
        self.init()
        // In the order of enum tg_usage_of.
        self.size = (size(.groups), size(.claimsMore), size(.socketRecordsMore))
    }

    /// The fullest map's elements as a share of the three quarters that are not kept (has_room()).
    var filling: Double {
        func share(_ elements: UInt64, _ size: UInt64) -> Double {
            size == 0 ? 0 : Double(elements) / (Double(size) * 0.75)
        }
        return max(
            share(elements.0, size.0), share(elements.1, size.1), share(elements.2, size.2))
    }
}
