// SPDX-License-Identifier: Apache-2.0
// A guard that nobody looks after.

import TupleguardAgentClient

extension Evidence {
    /// It refuses all the same; but nobody logs that, sweeps the table, or puts the guard back.
    func guardWithoutAgentFinding() -> [Finding] {
        switch agent {
        case .working, nil: return []
        case .some(.none):
            return [
                Finding(
                    .info, .guardWithoutAgent,
                    "guard without agent: connects are refused, and nobody logs it",
                    remedies: [.init("Start the agent.", "systemctl start tupleguard")])
            ]
        case .hanging(let pid, let why):
            return [
                Finding(
                    .warning, .guardWithoutAgent,
                    "guard without agent: the agent (pid \(pid)) hangs", notes: [why],
                    remedies: [.init("Start it again.", "systemctl restart tupleguard")])
            ]
        }
    }
}
