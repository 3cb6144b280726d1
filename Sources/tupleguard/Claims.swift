// SPDX-License-Identifier: Apache-2.0
import Agent
import ArgumentParser
import Guard
import Net

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

    @OptionGroup(title: "Places") var places: Places

    private struct Report: Encodable {
        struct OfClaim: Encodable {
            let local: String
            let remote: String
            let networkNamespace: UInt32
            let socketCookie: UInt64
            let since: String
            let owner: ProcessReport?
        }

        let claims: [OfClaim]
    }

    func run() throws {
        try Platform.requireCapabilities()
        let names = CgroupNames()
        let below = try cgroup.map { try Cgroup($0, in: CgroupHierarchy()).path }
        let claims = try places.guardState.claims()
            .filter { matches($0, below: below, names) }
            .sorted { $0.since < $1.since }
        if json {
            print(
                encodeJSON(
                    Report(
                        claims: claims.map { claim in
                            .init(
                                local: claim.tuple.local.description,
                                remote: claim.tuple.remote.description,
                                networkNamespace: claim.networkNamespace, socketCookie: claim.cookie,
                                since: timestamp(claim.since),
                                owner: ProcessReport(claim.owner, cgroups: names))
                        })))
        } else {
            show(claims, names)
        }
    }

    private func matches(_ claim: Claim, below: String?, _ names: CgroupNames) -> Bool {
        let ends = [claim.tuple.local, claim.tuple.remote]
        if let address, !ends.contains(where: { $0.address == address }) { return false }
        if let port, !ends.contains(where: { $0.port == port }) { return false }
        if let pid, claim.owner.pid != pid { return false }
        guard let below, below != "/" else { return true }
        guard let path = names.path(of: claim.owner.cgroup) else { return false }
        return path == below || path.hasPrefix(below + "/")
    }

    private func show(_ claims: [Claim], _ names: CgroupNames) {
        var table = Table(columns: [
            .init(title: "LOCAL"), .init(title: "PEER"), .init(title: "PROCESS"),
            .init(title: "UID", alignment: .right), .init(title: "AGE", alignment: .right),
            .init(title: "NETNS", alignment: .right), .init(title: "CGROUP", isFlexible: true),
        ])
        for claim in claims {
            let owner = claim.owner
            table.rows.append([
                claim.tuple.local.description, claim.tuple.remote.description,
                owner.isKnown ? "\(owner.command)(\(owner.pid))" : "-", "\(owner.uid)",
                age(claim.since), "\(claim.networkNamespace)",
                names.path(of: owner.cgroup) ?? "-",
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
