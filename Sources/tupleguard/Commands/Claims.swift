// SPDX-License-Identifier: Apache-2.0

public import ArgumentParser
import Glibc
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
public import TupleguardSockets

/// `tupleguard claims`
struct Claims: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the live claims: which socket of which process has which tuple.",
        discussion: """
            Filters may be combined; all of them must match. A local address of * means that the \
            socket is bound to none.

            EXAMPLES
              tupleguard claims
              tupleguard claims --address 192.0.2.53 --port 53
              tupleguard claims --pid 4711 --json
              tupleguard claims --cgroup system.slice/unbound.service
            """)

    @Option(help: "Either end has this address.")
    var address: IPAddress?

    @Option(help: "Either end has this port.")
    var port: UInt16?

    @Option(help: "Claimed by this process.")
    var pid: UInt32?

    @Option(help: "Claimed by a process of this cgroup, or of one below it.")
    var cgroup: String?

    @Flag(help: "One JSON object.")
    var json = false

    @OptionGroup(title: "Folders") var folders: FolderOptions

    private struct Report: Encodable {
        struct OfClaim: Encodable {
            let local: String
            let remote: String
            let networkNamespace: UInt32
            let socketCookie: UInt64
            let since: Timestamp
            let pid: Int32?
            let command: String?
            let uid: UInt32?
            let cgroup: String?
            let pod: Pod?
        }

        let claims: [OfClaim]
    }

    /// What /proc knows of the process that claimed; it may be gone, or have handed its socket on.
    private struct Owner {
        let uid: UInt32?
        let cgroup: String?
    }

    /// Looks each process up once.
    private struct Owners {
        let hierarchy: CgroupHierarchy
        var known: [Int32: Owner] = [:]

        mutating func find(_ pid: Int32) -> Owner {
            if let owner = known[pid] { return owner }
            let owner = Owner(
                uid: Proc.system.user(of: pid), cgroup: hierarchy.path(ofProcess: pid))
            known[pid] = owner
            return owner
        }
    }

    func run() throws {
        try Platform.requireCapabilities()
        let hierarchy = try CgroupHierarchy()
        var owners = Owners(hierarchy: hierarchy)
        let below = try cgroup.map { try Cgroup($0, in: hierarchy).path }
        let claims = try folders.guardState.claims()
            .filter { matches($0) }
            .map { (claim: $0, owner: owners.find($0.pid)) }
            .filter { below == nil || below == "/" || isIn($0.owner.cgroup, below!) }
            .sorted { $0.claim.since < $1.claim.since }
        if json {
            print(encodeJSON(Report(claims: claims.map { report($0.claim, $0.owner) })))
        } else {
            show(claims)
        }
    }

    private func matches(_ claim: Claim) -> Bool {
        let ends = [claim.tuple.local, claim.tuple.remote]
        if let address, !ends.contains(where: { $0.address == address }) { return false }
        if let port, !ends.contains(where: { $0.port == port }) { return false }
        if let pid, claim.pid != Int32(bitPattern: pid) { return false }
        return true
    }

    private func isIn(_ path: String?, _ ancestor: String) -> Bool {
        guard let path else { return false }
        return Cgroup.isPath(path, atOrBelow: ancestor)
    }

    private func report(_ claim: Claim, _ owner: Owner) -> Report.OfClaim {
        .init(
            local: claim.tuple.local.description, remote: claim.tuple.remote.description,
            networkNamespace: claim.networkNamespace, socketCookie: claim.cookie,
            since: claim.since, pid: claim.pid == 0 ? nil : claim.pid,
            command: claim.pid == 0 ? nil : claim.command, uid: owner.uid, cgroup: owner.cgroup,
            pod: owner.cgroup.flatMap(PodNames.system.pod))
    }

    private func show(_ claims: [(claim: Claim, owner: Owner)]) {
        var table = Table(columns: [
            .init(title: "LOCAL"), .init(title: "PEER"), .init(title: "PROCESS"),
            .init(title: "UID", alignment: .right), .init(title: "AGE", alignment: .right),
            .init(title: "NETNS", alignment: .right), .init(title: "CGROUP", isFlexible: true),
        ])
        for (claim, owner) in claims {
            table.rows.append([
                claim.tuple.local.description, claim.tuple.remote.description,
                claim.pid == 0 ? "-" : "\(claim.command)(\(claim.pid))",
                owner.uid.map { "\($0)" } ?? "-", claim.since.age, "\(claim.networkNamespace)",
                owner.cgroup.map(placeName) ?? "-",
            ])
        }
        table.print()
    }
}

extension IPAddress: ExpressibleByArgument {
    public init?(argument: String) {
        self.init(argument)
    }
}
