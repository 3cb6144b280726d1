// SPDX-License-Identifier: Apache-2.0
// What a guard did, in one line.

import TupleguardKernel
import TupleguardLinux

extension Counters {
    /// "1 UDP connect guarded, 2 TCP connects given a port, 1 refused (1 beyond the budget)"
    func summary(under policy: Policy) -> String {
        let isLimited = policy.ports != nil || policy.maxConnections != nil
        var parts: [String] = []
        if connectsClaimed > 0 || !isLimited {
            parts.append("\(amount(connectsClaimed, "UDP connect")) guarded")
        }
        if policy.ports != nil {
            parts.append("\(amount(self[.givenTCP], "TCP connect")) given a port")
        }
        if policy.maxConnections != nil {
            parts.append("\(amount(self[.counted], "connect")) counted")
        }
        parts.append("\(grouped(refused)) refused\(isLimited ? reasons : "")")
        if self[.observed] > 0 { parts.append("\(grouped(self[.observed])) would have been") }
        if self[.discovered] > 0 {
            parts.append(
                "\(policy.ports == nil ? "" : "UDP ")ports chosen for \(grouped(self[.discovered]))"
            )
        }
        if self[.portsBypassed] > 0 {
            parts.append("\(grouped(self[.portsBypassed])) from other ports, bound by the program")
        }
        if self[.unresolved] > 0 {
            parts.append(
                "\(grouped(self[.unresolved])) not guarded (shared port for the kernel to choose)")
        }
        return parts.joined(separator: ", ")
    }

    /// " (2 for want of a port, 1 beyond the budget)": of the refusals those that limits made.
    private var reasons: String {
        let counts = [
            (self[.refusedExhausted] &+ self[.refusedExhaustedTCP], "for want of a port"),
            (self[.refusedBudget], "beyond the budget"),
        ].filter { $0.0 > 0 }.map { "\(grouped($0.0)) \($0.1)" }
        return counts.isEmpty ? "" : " (\(counts.joined(separator: ", ")))"
    }
}
