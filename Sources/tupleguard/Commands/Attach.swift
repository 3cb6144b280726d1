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

            EXAMPLES
              tupleguard attach system.slice
              tupleguard attach --mode observe /sys/fs/cgroup/system.slice/proxy.service
              tupleguard attach --replace --errno EADDRNOTAVAIL system.slice
              tupleguard attach --discover all proxy.slice
              tupleguard attach --strict tenants.slice
            """)

    @Argument(help: "The cgroup's folder, or its path in the hierarchy.")
    var cgroup: String

    @Flag(help: "Give a cgroup that is guarded already this policy and this version's programs.")
    var replace = false

    @OptionGroup(title: "Policy") var policyOptions: PolicyOptions
    @OptionGroup(title: "Folders") var folders: FolderOptions

    func run() throws {
        try Platform.requireCapabilities()
        let target = try Cgroup(cgroup, in: CgroupHierarchy())
        let state = folders.guardState
        if replace, let paths = try state.takeOver() {
            let names = paths.map { printable($0) }.joined(separator: ", ")
            print("took over what an older version guards (\(names)); counters begin anew")
        }
        try state.attach(
            target, policy: policyOptions.policy, tableSize: policyOptions.tableSize,
            replacing: replace)
        let seeded = try state.seed()
        print("guarding \(target.path) (\(policyOptions.mode.rawValue))")
        if seeded.conflicts > 0 {
            print(
                "\(amount(seeded.conflicts, "socket")) share a tuple with another already: see `tupleguard conflicts`"
            )
        }
    }
}
