// SPDX-License-Identifier: Apache-2.0
// `tupleguard bind-launcher`, which `exec --defer-bind` starts.

import ArgumentParser
import Glibc
import TupleguardDeferral
import TupleguardSockets

struct BindLauncherCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bind-launcher",
        abstract: "Become a command whose bind() a parent answers.",
        shouldDisplay: false)

    @Option(help: "The descriptor of the channel to the parent.")
    var channel: Int32

    @Option(help: "The parent.")
    var parent: Int32

    @Flag(help: "Let it answer getsockname() too.")
    var names = false

    @Argument(parsing: .postTerminator, help: "The command and its arguments.")
    var command: [String] = []

    func run() throws {
        do {
            try BindLauncher.holdCalls(channel: channel, parent: parent, holdsNames: names)
        } catch {
            Terminal.note("Error: \(error)")
            throw ExitCode(Exec.failed)
        }
        throw Exec.cannotStart(command[0], Child.become(command))
    }
}
