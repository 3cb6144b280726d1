// SPDX-License-Identifier: Apache-2.0
// `tupleguard lab-keeper`, which `lab` starts.

import ArgumentParser
import TupleguardLab

struct LabKeeperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab-keeper",
        abstract: "Tidy up after a lab: started by it, ends with it.",
        shouldDisplay: false)

    @Argument(help: "The lab's process.")
    var process: Int32

    func run() {
        LabKeeper.keep(after: process)
    }
}
