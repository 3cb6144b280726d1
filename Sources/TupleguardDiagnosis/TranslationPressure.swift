// SPDX-License-Identifier: Apache-2.0
// How full the ports are that source NAT chooses from, for one destination.

package import TupleguardHostSurvey
import TupleguardLinux
package import TupleguardSockets

/// How full the ports are between one of source NAT's addresses and one destination.
package struct TranslationPressure {
    package let namespace: NamespaceSurvey
    package let destination: TranslationSurvey.Destination
    /// Sockets of this network namespace between the same two: NAT cannot have their ports either.
    package let ownSockets: Int
    package let filling: Filling

    init(
        _ destination: TranslationSurvey.Destination, _ namespace: NamespaceSurvey,
        ports: ClosedRange<UInt16>, before: NamespaceSurvey?, seconds: Double
    ) {
        self.namespace = namespace
        self.destination = destination
        ownSockets = namespace.sockets(of: destination)
        let same = before?.translation?.destinations.first {
            $0.transport == destination.transport && $0.pair == destination.pair
        }
        // One that was not among the busiest before had no more than the least of them, or none.
        let others = before?.translation?.destinations.last?.used ?? 0
        let used = destination.used + ownSockets
        let earlier = before.map { before in
            same.map { $0.used + before.sockets(of: destination) } ?? min(used, others)
        }
        filling = Filling(
            used: used, possible: ports.count, before: earlier, seconds: seconds,
            ended: same.map { destination.ended(since: $0) } ?? 0)
    }

    package var remote: Endpoint { destination.pair.remote }
    package var source: IPAddress { destination.pair.source }
    /// "TCP" or "UDP".
    package var name: String { destination.transport.acronym }
    /// "SNAT ports of 192.0.2.1 to 198.51.100.7:443 (TCP)"
    package var title: String { "SNAT ports of \(source) to \(remote) (\(name))" }
}

extension NamespaceSurvey {
    /// As far as the destination is one of the busiest of its sockets too.
    fileprivate func sockets(of destination: TranslationSurvey.Destination) -> Int {
        self[destination.transport].destinations.first { $0.pair == destination.pair }?.used ?? 0
    }
}

extension Survey {
    /// What source NAT has given out in one of its namespaces, busiest first.
    ///
    /// - Parameters:
    ///   - ports: that source NAT chooses from; its rules know, and the kernel does not tell.
    ///   - earlier: a look some time before, for rates.
    package func translationPressures(
        _ namespace: NamespaceSurvey, ports: ClosedRange<UInt16>, since earlier: Survey?
    ) -> [TranslationPressure] {
        let before = earlier?.namespace(like: namespace)
        let seconds = earlier.map { Double(time - $0.time) / 1e9 } ?? 0
        return (namespace.translation?.destinations ?? []).map {
            TranslationPressure($0, namespace, ports: ports, before: before, seconds: seconds)
        }.sorted { $0.filling.used > $1.filling.used }
    }
}

extension Evidence {
    /// What source NAT has given out in one namespace, busiest first.
    package func translationPressures(_ namespace: NamespaceSurvey) -> [TranslationPressure] {
        survey.translationPressures(namespace, ports: translationPorts, since: earlier)
    }

    /// The connections that one namespace tracks, of those that it may; nil where it tracks none,
    /// or as many as there is memory for.
    func tracking(_ namespace: NamespaceSurvey) -> Filling? {
        guard let now = namespace.translation, now.limit > 0 else { return nil }
        let earlier = before(namespace)?.translation
        // How many ended in between is not told: as if half of them had.
        return Filling(
            used: now.tracked, possible: now.limit, before: earlier?.tracked, seconds: seconds,
            ended: now.tracked / 2)
    }
}
