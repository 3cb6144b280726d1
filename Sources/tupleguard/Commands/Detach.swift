// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import TupleguardKernel
import TupleguardLinux

/// `tupleguard detach`
struct Detach: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take the guard off a cgroup, or off all.",
        discussion: """
            With the last cgroup the claim table, the conflicts and the counters go too.

            EXAMPLES
              tupleguard detach system.slice
              tupleguard detach --all
            """)

    @Argument(help: "The cgroup's folder, or its path in the hierarchy.")
    var cgroup: String?

    @Flag(help: "Every cgroup; removes the whole state, also another version's or a damaged one.")
    var all = false

    @OptionGroup(title: "Folders") var folders: FolderOptions

    func validate() throws {
        if (cgroup == nil) != all { throw ValidationError("give either a cgroup or --all") }
    }

    func run() throws {
        try Platform.requireCapabilities()
        let state = folders.guardState
        guard let cgroup else {
            try state.detachAll()
            print("detached")
            noteAgent()
            return
        }
        let target = try Cgroup(cgroup, in: CgroupHierarchy())
        try state.detach(target.id, path: target.path)
        print("no longer guarding \(printable(target.path))")
        noteAgent()
    }
    /// Who looks after the guard puts it back.
    private func noteAgent() {
        guard let agent = folders.agentFolder.agent else { return }
        Terminal.note(
            "an agent is running (pid \(agent)): what it is to guard it attaches again; to end that, stop it first"
        )
    }
}
