// SPDX-License-Identifier: Apache-2.0
// What programs reported to a running agent, for the commands that show it beside the kernel's own.

import TupleguardAgent
import TupleguardKernel

extension Places {
    /// What the agent that runs has heard; nil when none does. One that does not answer is said to
    /// (on standard error), and no reason to fail: what the guard knows needs no agent.
    func userspaceSummary() -> UserspaceSummary? {
        do {
            return try UserspaceSummary.read(from: RunFolder(path: runFolder))
        } catch {
            Terminal.note("what programs reported is not shown: \(error)")
            return nil
        }
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
