// SPDX-License-Identifier: Apache-2.0
// Whether an agent runs, and whether it works.

import TupleguardLinux

/// What an agent says of itself (GET /health).
package struct AgentHealth: Codable, Sendable {
    package var pid: Int32
    /// "guarding 1 of 1 cgroup"
    package var doing: String
    /// Since it last looked after the guard; nil of one that scans.
    package var secondsSinceLastRound: Double?
    /// Lines of its log that nobody took.
    package var logLinesLost: UInt64

    package init(
        pid: Int32, doing: String, secondsSinceLastRound: Double?, logLinesLost: UInt64
    ) {
        self.pid = pid
        self.doing = doing
        self.secondsSinceLastRound = secondsSinceLastRound
        self.logLinesLost = logLinesLost
    }
}

/// The agent of a run folder, as it is found from outside.
package enum AgentPresence: Equatable, Sendable {
    case none
    case working(pid: Int32, doing: String)
    /// It runs, and does not do what it is there for.
    case hanging(pid: Int32, why: String)

    /// Twice the longest that a sweep of the largest table was seen to take, amply.
    private static let longestRound = 60.0

    package init(of folder: RunFolder) {
        guard let pid = folder.agent else {
            self = .none
            return
        }
        // Known without a question, which such a one would leave unanswered.
        if Proc.system.isStopped(pid) == true {
            self = .hanging(pid: pid, why: "stopped by a signal or a debugger: kill -CONT \(pid)")
            return
        }
        do throws(AgentError) {
            let health: AgentHealth? = try AgentConnection.answer("/health", from: folder)
            guard let health else {
                self = .hanging(pid: pid, why: "it is starting, or takes no questions")
                return
            }
            self.init(health, pid: pid)
        } catch {
            self = .hanging(pid: pid, why: "it does not answer: \(error)")
        }
    }

    package var pid: Int32? {
        switch self {
        case .none: nil
        case .working(let pid, _), .hanging(let pid, _): pid
        }
    }

    package var isWorking: Bool { if case .working = self { true } else { false } }

    /// A stable name, for machines.
    package var name: String {
        switch self {
        case .none: "none"
        case .working: "working"
        case .hanging: "hanging"
        }
    }

    /// By what the agent says.
    init(_ health: AgentHealth, pid: Int32) {
        if let seconds = health.secondsSinceLastRound, seconds > Self.longestRound {
            let whole = Int64(exactly: seconds.rounded()) ?? .max
            self = .hanging(pid: pid, why: "its work has not gone on for \(whole)s")
        } else {
            self = .working(pid: pid, doing: health.doing)
        }
    }
}
