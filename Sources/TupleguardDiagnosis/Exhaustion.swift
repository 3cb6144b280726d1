// SPDX-License-Identifier: Apache-2.0
// Of all that can fill up, sockets' ports, source NAT's and its table: what does so first.

import TupleguardHostSurvey
package import TupleguardLinux

/// Something that fills up, and how far it is.
package struct Exhaustion: Sendable {
    /// Of the finding that it would be.
    package let kind: Finding.Kind
    /// "TCP ports from 192.0.2.1 to 198.51.100.7:443"
    package let what: String
    package let namespace: NetworkNamespace
    package let filling: Filling

    /// At its present rate, where that can be told from a burst.
    package var secondsUntilFull: Double? {
        filling.isFull || filling.usage >= Filling.tellingRate ? filling.secondsUntilFull : nil
    }

    /// Whether it is full before `other`; where neither fills, whether it is fuller.
    func comes(before other: Exhaustion) -> Bool {
        let (time, otherTime) = (
            secondsUntilFull ?? .infinity, other.secondsUntilFull ?? .infinity
        )
        return time == otherTime ? filling.usage > other.filling.usage : time < otherTime
    }
}

extension Evidence {
    /// What runs out first; nil where nothing is in use.
    package func firstToRunOut() -> Exhaustion? {
        survey.namespaces.flatMap(exhaustions).filter { $0.filling.used > 0 }
            .reduce(nil as Exhaustion?) { first, next in
                first.map { next.comes(before: $0) ? next : $0 } ?? next
            }
    }

    private func exhaustions(_ namespace: NamespaceSurvey) -> [Exhaustion] {
        func all(_ kind: Finding.Kind, _ fillings: [(String, Filling)]) -> [Exhaustion] {
            fillings.map {
                Exhaustion(
                    kind: kind, what: $0.0, namespace: namespace.namespace, filling: $0.1)
            }
        }
        return all(
            .destinationFilling,
            pressures(namespace).map {
                ("\($0.name) ports from \($0.source) to \($0.remote)", $0.filling)
            })
            + all(
                .sourceFilling,
                survey.fullestSource(namespace, since: earlier).map {
                    [("UDP ports at \(address($0.source.address))", $0.filling)]
                } ?? [])
            + all(
                .translationFilling,
                translationPressures(namespace).map { ($0.title, $0.filling) })
            + all(
                .conntrackTable,
                tracking(namespace).map { [("the table of tracked connections", $0)] } ?? [])
    }
}
