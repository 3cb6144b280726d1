// SPDX-License-Identifier: Apache-2.0
// Where the guard's state and the running agent are, and asking both.

import ArgumentParser
import Glibc
import TupleguardAgentClient
import TupleguardKernel

/// Where the guard's state and the agent's socket are.
struct FolderOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Folder of the pinned state.", valueName: "folder"))
    var state = environment("TUPLEGUARD_STATE") ?? GuardState.defaultFolder

    @Option(help: ArgumentHelp("Folder of the agent's socket and lock.", valueName: "folder"))
    var runFolder = environment("TUPLEGUARD_RUN") ?? RunFolder.defaultPath

    /// For tests that have the machine to share: the cgroup that stands for the root, where
    /// outsiders are seen, and a table with so many buckets, however large it is.
    @Option(help: .hidden) var outermost: String?
    @Option(help: .hidden) var buckets: Int?

    var guardState: GuardState {
        var guardState = GuardState(folder: state, fewBuckets: buckets)
        guardState.outermost = outermost
        return guardState
    }
    var agentFolder: RunFolder { RunFolder(path: runFolder) }

    func validate() throws {
        if let buckets, buckets < 1 || buckets & (buckets - 1) != 0 {
            throw ValidationError("--buckets \(buckets): give a power of two")
        }
        for (name, path) in [("--state", state), ("--run-folder", runFolder)] {
            // A BPF file system has no names with a dot in them.
            guard path.hasPrefix("/"), path.count > 1 else {
                throw ValidationError("\(name) \(path): give an absolute path")
            }
            // The name of the agent's socket has 107 bytes at most (unix(7)).
            guard path.utf8.count < 90 else {
                throw ValidationError("\(name) \(path): too long: give a path below 90 bytes")
            }
            if name == "--state" && path.contains(".") {
                throw ValidationError("\(name) \(path): give a path without dots")
            }
        }
    }
}

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
}

extension FolderOptions {
    /// Asks the agent that runs; nil when none does. One that does not answer is said to (on
    /// standard error), and no reason to fail: what the guard knows needs no agent.
    func askAgent<Answer>(_ read: (RunFolder) throws(AgentError) -> Answer?) -> Answer? {
        do {
            return try read(agentFolder)
        } catch {
            Terminal.note("what programs reported is not shown: \(error)")
            return nil
        }
    }

    /// What the agent that runs remembers of cgroups that are gone; nothing where none does.
    func rememberedCgroups() -> [UInt64: String] {
        (try? RememberedCgroups.read(from: agentFolder))?.paths ?? [:]
    }

    /// Reads from the guard. Where none is attached, or none may be read, but an agent answered
    /// there is still something to show, and `nothing` stands for what the guard would have said.
    func unlessAgentAnswers<Value>(
        _ hasAnswered: Bool, else nothing: Value, _ read: () throws -> Value
    ) throws -> Value {
        do {
            try Platform.requireCapabilities()
            return try read()
        } catch GuardError.noGuard where hasAnswered {
            Terminal.note("no guard is attached; what there is comes from the agent")
            return nothing
        } catch GuardError.notPermitted(let missing) where hasAnswered {
            // An agent without BPF is for where this is so.
            Terminal.note(
                "what there is comes from the agent; to see a guard as well takes \(missing.joined(separator: ", "))"
            )
            return nothing
        }
    }
}
