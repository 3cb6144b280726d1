// SPDX-License-Identifier: Apache-2.0
// What comes of the evidence: diagnoses, and what could not be seen.

import TupleguardHostSurvey
import TupleguardLinux

/// What was found, ready to be shown.
package struct Examination: Sendable {
    package let evidence: Evidence
    /// Most urgent first.
    package let findings: [Finding]
    /// What could not be seen, each a sentence.
    package let unseen: [String]
    /// Nil where nothing is in use.
    package let firstToRunOut: Exhaustion?

    package init(_ evidence: Evidence) {
        self.evidence = evidence
        findings = evidence.findings()
        unseen = evidence.unseen()
        firstToRunOut = evidence.firstToRunOut()
    }

    package var worst: Severity? { findings.map(\.severity).max() }
}

extension Evidence {
    /// Every diagnosis, most urgent first.
    package func findings() -> [Finding] {
        var findings: [Finding] = []
        for namespace in survey.namespaces {
            for pressure in pressures(namespace) {
                findings += [destinationFinding(pressure), timeWaitFinding(pressure)]
                    .compactMap(\.self)
            }
            findings += sourceFindings(namespace)
            findings += smallRangeFinding(namespace) + fragmentedRangeFinding(namespace)
            findings += lockedPortFindings(namespace)
            findings += translationPressures(namespace).compactMap(translationFinding)
            findings += [trackingFinding(namespace)].compactMap(\.self)
        }
        findings += overshadowedFindings()
        findings += descriptorFindings() + hostFilesFinding()
        findings += kernelFindings()
        switch guardSight {
        case .unseen: break
        case .none: findings += unguardedFinding()
        case .attached(let facts):
            findings += guardTooLowFinding(facts) + guardFollowedFinding(facts)
            findings += guardTableFinding(facts)
            findings += ownPortsFindings(facts) + connectionsFindings(facts)
            findings += guardEventsFinding(facts) + guardWithoutAgentFinding()
        }
        // sort(by:) keeps no order among equals; the index does.
        return findings.enumerated().sorted { a, b in
            if a.element.isMoreUrgent(than: b.element) { return true }
            return !b.element.isMoreUrgent(than: a.element) && a.offset < b.offset
        }.map(\.element)
    }

    /// What could not be seen, each a sentence.
    package func unseen() -> [String] {
        var unseen: [String] = []
        if let namespaces = survey.unseenNamespaces { unseen.append(namespaces) }
        let unreadable = max(owners.unreadable, shadowOwners.unreadable)
        if unreadable > 0 {
            unseen.append("which sockets \(amount(unreadable, "process")) of other users have")
        }
        if uncountedDescriptors > 0 {
            unseen.append("how many descriptors \(amount(uncountedDescriptors, "process")) have")
        }
        if Proc.system.hidesProcesses {
            unseen.append("processes of other users: /proc hides them (hidepid)")
        }
        if case .unseen(let why) = guardSight { unseen.append("the guard: \(why)") }
        unseen += survey.namespaces.compactMap(unseenTranslation)
        for namespace in survey.namespaces {
            let missing = namespace.tcp.unlistedSources + namespace.udp.unlistedSources
            if missing > 0 {
                unseen.append(
                    "\(amount(missing, "socket")) of more than 1,000 source addresses in \(namespace.namespace.name)"
                )
            }
        }
        return unseen
    }

    private func unseenTranslation(_ namespace: NamespaceSurvey) -> String? {
        guard let translation = namespace.translation else { return nil }
        let place = "in \(namespace.namespace.name)"
        if let fault = translation.fault {
            return
                "which of \(amount(translation.tracked, "tracked connection")) \(place) source NAT has given a port: \(fault)"
        }
        if translation.undercount > 0 {
            return
                "up to \(amount(translation.undercount, "port")) of each destination that source NAT serves \(place): they are too many"
        }
        return nil
    }
}
