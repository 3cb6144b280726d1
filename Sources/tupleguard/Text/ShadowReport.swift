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
    let sides: ShadowSides

    static func make(_ shadows: [Shadow], _ history: ShadowHistory) -> [ShadowReport] {
        let owners = SocketOwners(of: shadows.flatMap(\.members).map(\.inode))
        let cgroups = CgroupNames()
        return shadows.map { shadow in
            ShadowReport(
                local: shadow.tuple.local.description, remote: shadow.tuple.remote.description,
                networkNamespaceName: shadow.namespace.name, interface: shadow.interface,
                firstSeen: Timestamp(nanosecondsSince1970: history.firstSeen(shadow) ?? 0),
                sides: ShadowSides(shadow, owners: owners, cgroups: cgroups))
        }
    }

    private enum CodingKeys: CodingKey {
        case local, remote, networkNamespaceName, interface, firstSeen
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(local, forKey: .local)
        try container.encode(remote, forKey: .remote)
        try container.encode(networkNamespaceName, forKey: .networkNamespaceName)
        try container.encode(interface, forKey: .interface)
        try container.encode(firstSeen, forKey: .firstSeen)
        try sides.encode(to: encoder)
    }

    var lines: [String] {
        let place =
            networkNamespaceName == NetworkNamespace.ownName ? "" : "  in \(networkNamespaceName)"
        return ["\(Terminal.bold("\(local) -> \(remote)"))\(place)"]
            + (sides.receiver.map { ["  receives      \($0.owner)"] } ?? [])
            + sides.contenders.map { "  may receive   \($0.owner)\($0.processorsText)" }
            + sides.overshadowed.map { "  overshadowed  \($0.owner)" }
            + (sides.dependsOn.map { ["  depends on    \($0.explanation)"] } ?? [])
            + ["  seen since    \(firstSeen), and perhaps there for longer"]
    }
}

/// What came of destroying one of the sockets, or why none was.
struct ResolutionReport: Encodable {
    let local: String
    let remote: String
    /// What the choice of the socket rests on.
    let basis: String
    let destroyed: SharedSocket?
    let error: String?
    /// Why none was chosen.
    let undecided: String?
    /// Sockets that are overshadowed still, by one that was so itself.
    let remaining: Int

    init(_ report: ShadowReport, _ resolution: Resolution, of victim: SharedSocket, basis: String) {
        local = report.local
        remote = report.remote
        self.basis = basis
        destroyed = resolution.isDestroyed ? victim : nil
        error = resolution.error
        undecided = nil
        remaining = resolution.remaining
    }

    /// Of several that may receive none was chosen.
    init(_ report: ShadowReport, undecided: String, basis: String) {
        local = report.local
        remote = report.remote
        self.basis = basis
        destroyed = nil
        error = nil
        self.undecided = undecided
        remaining = report.sides.all.count - 1
    }
}

extension SharedSocket {
    /// Whose it is. Without privilege other users' processes cannot be seen.
    var owner: String {
        processes.isEmpty ? "a process that cannot be seen (uid \(uid))" : description
    }

    /// ", on processors 0-2 and 5"
    fileprivate var processorsText: String {
        guard let foundOn, !foundOn.isEmpty else { return "" }
        return ", on processor\(foundOn.count == 1 ? "" : "s") \(rangesText(foundOn))"
    }
}

/// "0-2, 5"
func rangesText(_ numbers: [Int32]) -> String {
    var ranges: [ClosedRange<Int32>] = []
    for number in numbers.sorted() {
        if let last = ranges.last, last.upperBound + 1 >= number {
            ranges[ranges.count - 1] = last.lowerBound...max(number, last.upperBound)
        } else {
            ranges.append(number...number)
        }
    }
    return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
        .joined(separator: ", ")
}
