// SPDX-License-Identifier: Apache-2.0
// Of two sockets that share a tuple, the end of the one that came later.

import Glibc
import TupleguardHostSurvey
import TupleguardLinux
package import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

/// What the agent does where two sockets are found to share a tuple, one of them without a claim.
package enum OnShadow: String, CaseIterable, Sendable {
    /// It is logged, and shown by `conflicts`.
    case report
    /// The socket that came later is ended too, if it is the one that receives.
    case destroy
}

/// Sockets that came to a tuple which another held.
package enum Newcomers {
    private typealias Listed = (place: Int, record: SocketRecord)

    /// Ends the later socket of each pair that shares a tuple still.
    ///
    /// - Returns: what was ended, in words for people.
    package static func end(of shadows: [GuardEvent]) -> [String] {
        guard !shadows.isEmpty else { return [] }
        return NetworkNamespace.find().namespaces.flatMap { namespace in
            // A namespace may go while we look, with its sockets.
            (try? NetworkNamespace.inside(path: namespace.path) { try endHere(shadows) }) ?? []
        }
    }

    private static func endHere(_ shadows: [GuardEvent]) throws -> [String] {
        var diag = try SocketDiag()
        let cookie = diag.namespace.cookie
        let here = shadows.filter { shadow in
            cookie.map { shadow.networkNamespace == UInt32(truncatingIfNeeded: $0) } ?? false
        }
        guard !here.isEmpty else { return [] }
        let listed = try list(&diag)
        var ended: [String] = []
        for shadow in here {
            guard let first = listed[shadow.claimantCookie],
                let second = listed[shadow.holderCookie],
                let rivals = rivals(first, second), let newcomer = rivals.sockets.first,
                try end(newcomer, rivals)
            else { continue }
            let process =
                newcomer.cookie == shadow.claimantCookie ? shadow.claimant : shadow.holder
            let name = process?.nameAndNumbers ?? "a process that is not known"
            ended.append("\(newcomer.tuple) of \(name)")
        }
        return ended
    }

    /// All connected sockets by their cookie, and at which place they are listed.
    private static func list(_ diag: inout SocketDiag) throws -> [UInt64: Listed] {
        var listed: [UInt64: Listed] = [:]
        var filter = SocketDiag.Filter()
        filter.states = 1 << 1
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32_768, alignment: 8)
        defer { buffer.deallocate() }
        for family in [AF_INET, AF_INET6] {
            try diag.list(.udp, family: family, filter: filter, buffer: buffer) { record in
                listed[record.cookie] = (listed.count, record)
            }
        }
        return listed
    }

    /// Both, the newcomer first: the kernel lists the sockets of a port in the reverse order of
    /// their coming to it (udp_lib_get_port), each family by itself; of two it cannot be told.
    private static func rivals(_ first: Listed, _ second: Listed) -> Rivals? {
        guard first.record.tuple == second.record.tuple,
            first.record.family == second.record.family
        else { return nil }
        let listed = [first, second].sorted { $0.place < $1.place }.map(\.record)
        return Rivals(
            tuple: first.record.tuple,
            interface: max(first.record.interface, second.record.interface), sockets: listed)
    }

    /// False where it is gone, or does no harm: it is the other that receives, wherever.
    private static func end(_ newcomer: SocketRecord, _ rivals: Rivals) throws(Errno) -> Bool {
        guard
            let judgement = try Rivals.judge([rivals])[0],
            judgement.contenders.contains(where: { $0.socket.cookie == newcomer.cookie })
        else { return false }
        do throws(Errno) {
            try Rivals.end(newcomer)
            return true
        } catch {
            guard error.number == ENOENT else { throw error }
            return false
        }
    }
}
