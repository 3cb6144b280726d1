// SPDX-License-Identifier: Apache-2.0
// Finds the connected UDP sockets that share a 4-tuple.

import Glibc
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// Finds tuples with several sockets in two passes over the connected UDP sockets.
///
/// The first keeps eight bytes of each; only when two are equal does the second, which keeps
/// the sockets with these. So 100,000 sockets take 800 KB.
struct ShadowSearch {
    private static let connected: UInt32 = 1 << 1
    private var hashes: [Int] = []

    mutating func add(_ record: SocketRecord) {
        if record.isConnected { hashes.append(record.tuple.hashValue) }
    }

    /// - Parameter buffer: for the kernel's replies.
    mutating func finish(
        in namespace: NetworkNamespace, _ diag: inout SocketDiag,
        buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> [Shadow] {
        let suspects = repeated()
        guard !suspects.isEmpty else { return [] }
        var groups: [FourTuple: [SocketRecord]] = [:]
        var seen: Set<UInt64> = []
        var filter = SocketDiag.Filter()
        filter.states = Self.connected
        for family in [AF_INET, AF_INET6] {
            try diag.list(.udp, family: family, filter: filter, buffer: buffer) { record in
                guard suspects.contains(record.tuple.hashValue) else { return }
                // A listing may tell a socket twice.
                if seen.insert(record.cookie).inserted {
                    groups[record.tuple, default: []].append(record)
                }
            }
        }
        let rivals = groups.flatMap { tuple, members in
            members.count > 1 && !isExempt(tuple) ? Self.rivals(tuple, members) : []
        }
        let shadows = zip(rivals, try Rivals.judge(rivals)).compactMap { rivals, judgement in
            judgement.map { Shadow(namespace: namespace, rivals: rivals, judgement: $0) }
        }
        return shadows.sorted { $0.tuple.description < $1.tuple.description }
    }

    private mutating func repeated() -> Set<Int> {
        hashes.sort()
        var repeated: Set<Int> = []
        for (hash, next) in zip(hashes, hashes.dropFirst()) where hash == next {
            repeated.insert(hash)
        }
        return repeated
    }

    /// No unicast answer carries such a source, and sharing is what they are for.
    private func isExempt(_ tuple: FourTuple) -> Bool {
        tuple.remote.address.isMulticast || Arrival(of: tuple) == .broadcast
    }

    /// Sockets of different devices do not meet; one without a device meets those of any.
    private static func rivals(_ tuple: FourTuple, _ members: [SocketRecord]) -> [Rivals] {
        let devices = Set(members.map(\.interface)).subtracting([0])
        return (devices.isEmpty ? [0] : devices.sorted()).compactMap { device in
            let rivals = members.filter { $0.interface == 0 || $0.interface == device }
            return rivals.count > 1
                ? Rivals(tuple: tuple, interface: device, sockets: rivals) : nil
        }
    }
}
