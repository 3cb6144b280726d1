// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardKernel
import TupleguardLinux

/// `tupleguard attach`
struct Attach: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Guard a cgroup, without a daemon.",
        discussion: """
            Loads the BPF programs, claims for the connected UDP sockets that exist already, and \
            pins everything, so that the guard goes on until `tupleguard detach` or a reboot.

            Without a cgroup it guards those that the configuration file names. Options that are \
            not given are read there as well: tupleguard.conf(5).

            EXAMPLES
              tupleguard attach
              tupleguard attach system.slice
              tupleguard attach --mode observe /sys/fs/cgroup/system.slice/proxy.service
              tupleguard attach --replace --errno EADDRNOTAVAIL system.slice
              tupleguard attach --discover all proxy.slice
              tupleguard attach --ports 20000-29999 egress.slice
              tupleguard attach --strict tenants.slice
            """)

    @Argument(help: "The cgroup's folder, or its path in the hierarchy.")
    var cgroup: String?

    @Flag(help: "Give a cgroup that is guarded already this policy and this version's programs.")
    var replace = false

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions
    @OptionGroup(title: "Configuration") var configurationFile: ConfigurationOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    func run() throws {
        let settings = try configurationFile.endingForMistakes { try configurationFile.read() }
        let options = try policyOptions.completed(by: settings.policyOptions)
        let names = cgroup.map { [$0] } ?? settings.cgroups
        if names.isEmpty {
            throw ValidationError("give a cgroup, or name one in the configuration file")
        }
        if options.ports?.range != nil && Set(names).count > 1 {
            throw ValidationError(
                "--ports is for one cgroup, and \(names.count) are named: attach each by itself, with ports of its own"
            )
        }
        try Platform.requireCapabilities()
        let hierarchy = try CgroupHierarchy()
        let targets = try names.map { try Cgroup($0, in: hierarchy) }
        let state = folders.guardState
        try state.checkPlace()
        if replace, let paths = try state.takeOver() {
            let names = paths.map { printable($0) }.joined(separator: ", ")
            print("took over what an older version guards (\(names)); counters begin anew")
        }
        state.removeAbandonedRuns(hasAgent: folders.agentFolder.agent != nil)
        try attach(targets, options, state)
        let seeded = try state.seed()
        for target in targets {
            print("guarding \(printable(target.path)) (\(options.policy.mode.rawValue))")
            for remark in try state.remarks(on: target) { print(printable(remark)) }
        }
        if let remark = options.policy.portRemark() { Terminal.note(remark) }
        if let unseen = seeded.unseen { Terminal.note(unseen) }
        if seeded.conflicts > 0 {
            print(
                "\(amount(seeded.conflicts, "socket", "shares", "share")) a tuple with another already: see `tupleguard conflicts`"
            )
        }
    }

    /// All of them or, where one cannot be guarded, none that was not before.
    private func attach(_ targets: [Cgroup], _ options: PolicyOptions, _ state: GuardState) throws {
        let before = state.exists ? try state.attachments().map(\.id) : []
        do {
            for target in targets {
                try state.attach(
                    target, policy: options.policy, tableSize: options.tableSize,
                    replacing: replace)
            }
        } catch {
            for target in targets where !before.contains(target.id) {
                try? state.detach(target.id, path: target.path)
            }
            throw error
        }
    }
}
