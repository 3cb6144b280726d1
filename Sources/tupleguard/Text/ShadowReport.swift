// SPDX-License-Identifier: Apache-2.0
// A tuple with several sockets, as text and as JSON.

import TupleguardDiagnosis
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSocketDiag
import TupleguardSockets

/// A tuple with several sockets, as it is shown.
struct ShadowReport: Encodable {
    let local: String
    let remote: String
    let networkNamespaceName: String
    let interface: UInt32
    let firstSeen: Timestamp
    let receiver: SharedSocket
    let overshadowed: [SharedSocket]

    static func make(_ shadows: [Shadow], _ history: ShadowHistory) -> [ShadowReport] {
        let owners = SocketOwners(of: shadows.flatMap(\.members).map(\.inode))
        let names = CgroupNames()
        func socket(_ record: SocketRecord) -> SharedSocket {
            SharedSocket(record, owners: owners, cgroups: names)
        }
        return shadows.map { shadow in
            ShadowReport(
                local: shadow.tuple.local.description, remote: shadow.tuple.remote.description,
                networkNamespaceName: shadow.namespace.name, interface: shadow.interface,
                firstSeen: Timestamp(nanosecondsSince1970: history.firstSeen(shadow) ?? 0),
                receiver: socket(shadow.receiver), overshadowed: shadow.overshadowed.map(socket))
        }
    }

    var lines: [String] {
        let place =
            networkNamespaceName == NetworkNamespace.ownName ? "" : "  in \(networkNamespaceName)"
        return ["\(Terminal.bold("\(local) -> \(remote)"))\(place)"]
            + ["  receives      \(receiver.owner)"]
            + overshadowed.map { "  overshadowed  \($0.owner)" }
            + ["  seen since    \(firstSeen), and perhaps there for longer"]
    }
}

/// What came of destroying the socket that receives.
struct ResolutionReport: Encodable {
    let local: String
    let remote: String
    let destroyed: SharedSocket?
    let error: String?
    /// Sockets that are overshadowed still, by one that was so itself.
    let remaining: Int

    init(_ report: ShadowReport, _ resolution: Resolution) {
        local = report.local
        remote = report.remote
        destroyed = resolution.isDestroyed ? report.receiver : nil
        error = resolution.error
        remaining = resolution.remaining
    }
}

extension SharedSocket {
    /// Whose it is. Without privilege other users' processes cannot be seen.
    var owner: String {
        processes.isEmpty ? "a process that cannot be seen (uid \(uid))" : description
    }
}
