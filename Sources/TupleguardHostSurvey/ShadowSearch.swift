// SPDX-License-Identifier: Apache-2.0
// Finds the connected UDP sockets that share a 4-tuple, and who of them receives.

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
        var groups: [FourTuple: [UInt64: SocketRecord]] = [:]
        var filter = SocketDiag.Filter()
        filter.states = Self.connected
        for family in [AF_INET, AF_INET6] {
            try diag.list(.udp, family: family, filter: filter, buffer: buffer) { record in
                guard suspects.contains(record.tuple.hashValue) else { return }
                // By cookie: a listing may tell a socket twice.
                groups[record.tuple, default: [:]][record.cookie] = record
            }
        }
        var shadows: [Shadow] = []
        for (tuple, members) in groups where members.count > 1 && !isExempt(tuple) {
            shadows += try judge(tuple, Array(members.values), namespace, &diag)
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
        tuple.remote.address.isMulticast || isBroadcast(tuple.remote)
    }

    /// A subnet's broadcast address: connect() without SO_BROADCAST gives EACCES
    /// (ip4_datagram_connect). Nothing is sent.
    private func isBroadcast(_ remote: Endpoint) -> Bool {
        guard remote.address.isIPv4,
            let probe = try? OwnedDescriptor({
                socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            })
        else { return false }
        let result = remote.withSocketAddress(family: AF_INET) { connect(probe.raw, $0, $1) }
        return result != 0 && errno == EACCES
    }

    /// Sockets of different devices do not meet; one without a device meets those of any.
    private func judge(
        _ tuple: FourTuple, _ members: [SocketRecord], _ namespace: NetworkNamespace,
        _ diag: inout SocketDiag
    ) throws(Errno) -> [Shadow] {
        let devices = Set(members.map(\.interface)).subtracting([0])
        var shadows: [Shadow] = []
        for device in devices.isEmpty ? [0] : devices.sorted() {
            let rivals = members.filter { $0.interface == 0 || $0.interface == device }
            guard rivals.count > 1,
                let found = try diag.receiver(of: tuple, interface: device),
                let receiver = rivals.first(where: { $0.cookie == found.cookie })
            else { continue }
            let others = rivals.filter { $0.cookie != receiver.cookie }
            shadows.append(
                Shadow(
                    namespace: namespace, tuple: tuple, interface: device, receiver: receiver,
                    overshadowed: others.sorted { $0.inode < $1.inode }))
        }
        return shadows
    }
}
