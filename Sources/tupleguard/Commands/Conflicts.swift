// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import TupleguardAgentClient
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords

/// `tupleguard conflicts`
struct Conflicts: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which tuples were refused, to whom, and who holds them.",
        discussion: """
            Newest first, from what the guard itself remembers (the latest 4,096 tuples or so); \
            no agent is needed. Where one runs, what programs reported to it through connectx is \
            shown too, marked "connectx": it is what they say, and only who they are comes from \
            the kernel. With --follow conflicts are shown as they happen, which needs a running \
            agent.

            EXAMPLES
              tupleguard conflicts
              tupleguard conflicts --limit 5 --json
              tupleguard conflicts --follow
            """)

    @Flag(help: "One JSON object, or with --follow one for each line.")
    var json = false

    @Flag(help: "Show conflicts as they happen, until interrupted.")
    var follow = false

    @Option(help: "Show at most N tuples.")
    var limit: Int?

    @OptionGroup(title: "Folders") var folders: FolderOptions

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit \(limit): at least 1") }
        if follow && limit != nil { throw ValidationError("--follow has no --limit") }
    }

    func run() throws {
        if follow { return try followEvents() }
        let conflicts = Array(try read().prefix(limit ?? .max))
        if json {
            print(encodeJSON(["conflicts": conflicts]))
        } else if conflicts.isEmpty {
            print("no conflicts")
        } else {
            for line in conflicts.flatMap(\.lines) { print(line) }
        }
    }

    /// Of all sources, newest first.
    private func read() throws -> [KnownConflict] {
        let findings = folders.askAgent(AgentFindings.read)
        let guarded = try folders.unlessAgentAnswers(findings != nil, else: []) {
            try folders.guardState.conflicts()
        }
        let names = CgroupNames()
        lazy var remembered = folders.rememberedCgroups()
        return KnownConflict.all(guarded, findings) { names.path(of: $0) ?? remembered[$0] }
    }

    private func followEvents() throws {
        var stream = try EventStream.open(folders.agentFolder)
        while let line = stream.nextLine() {
            if json {
                print(line)
            } else if let followed: FollowedEvent = decodeJSON(line) {
                print("\(followed.event.time) \(followed.event.line)")
            } else {
                // Of an agent of another version.
                print(printable(line))
            }
            fflush(nil)  // also into a pipe, line by line
        }
        throw AgentError.failed(
            what: "follow any longer", errno: .init(EPIPE), detail: "the agent has stopped")
    }
}
