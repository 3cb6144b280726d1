// SPDX-License-Identifier: Apache-2.0
// Of two sockets that share a tuple, the end of the one that came later.

import Glibc
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
                let newcomer = newcomer(of: first, second), try end(newcomer, &diag)
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

    /// The kernel lists the sockets of a port in the reverse order of their coming to it
    /// (udp_lib_get_port), each family by itself; of two families it cannot be told.
    private static func newcomer(of first: Listed, _ second: Listed) -> SocketRecord? {
        guard first.record.tuple == second.record.tuple,
            first.record.family == second.record.family
        else { return nil }
        return first.place < second.place ? first.record : second.record
    }

    /// False where it is gone, or does no harm: it is the other that receives.
    private static func end(
        _ newcomer: SocketRecord, _ diag: inout SocketDiag
    ) throws(Errno) -> Bool {
        let receiver = try diag.receiver(of: newcomer.tuple, interface: newcomer.interface)
        guard receiver?.cookie == newcomer.cookie else { return false }
        do throws(Errno) {
            try diag.destroy(newcomer, .udp)
            return true
        } catch {
            guard error.number == ENOENT else { throw error }
            return false
        }
    }
}
