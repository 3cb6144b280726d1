// SPDX-License-Identifier: Apache-2.0
// How full the ports are: to one destination, or at one address altogether.

package import TupleguardHostSurvey
import TupleguardLinux
import TupleguardSocketDiag
package import TupleguardSockets

/// How full the ports between one address and one destination are.
package struct DestinationPressure {
    package let namespace: NamespaceSurvey
    package let transport: Transport
    package let destination: TransportSurvey.Destination
    package let filling: Filling

    init(
        _ destination: TransportSurvey.Destination, _ transport: Transport,
        _ namespace: NamespaceSurvey, before: NamespaceSurvey?, seconds: Double
    ) {
        self.namespace = namespace
        self.transport = transport
        self.destination = destination
        let earlier = before.map { $0[transport] }
        func used(_ destination: TransportSurvey.Destination) -> Int {
            // A connection in TIME_WAIT whose port may be taken again is in nobody's way.
            namespace.settings.reusesTimeWait(to: destination.pair.remote.address)
                ? destination.used - destination.timeWait + destination.freshTimeWait
                : destination.used
        }
        let now = used(destination)
        let same = earlier?.destinations.first { $0.pair == destination.pair }
        let before = earlier.map { earlier in
            // One that was not among the busiest before had no more than the least of them.
            same.map(used)
                ?? min(now, earlier.hasMoreDestinations ? earlier.destinations.last!.used : 0)
        }
        filling = Filling(
            used: now,
            possible: max(0, namespace.settings.possible - destination.locked),
            before: before, seconds: seconds,
            ended: Set(same?.inodes ?? []).subtracting(destination.inodes).count)
    }

    package var remote: Endpoint { destination.pair.remote }
    /// The local address; "any address" where there is none.
    package var source: String { address(destination.pair.source) }
    /// "TCP" or "UDP".
    package var name: String { transport.acronym }
    var timeWaitShare: Double {
        destination.used > 0 ? Double(destination.timeWait) / Double(destination.used) : 0
    }
}

extension Transport {
    /// "TCP" or "UDP", for people.
    var acronym: String { self == .tcp ? "TCP" : "UDP" }
}

/// How full one address is for sockets that share no port.
struct SourcePressure {
    let namespace: NamespaceSurvey
    let source: TransportSurvey.Source
    let filling: Filling

    /// - Parameter ended: sockets of the earlier look that were gone at the later one.
    init(
        _ source: TransportSurvey.Source, _ namespace: NamespaceSurvey, before: TransportSurvey?,
        seconds: Double, ended: Int
    ) {
        self.namespace = namespace
        self.source = source
        let earlier = before.map { before in
            before.sources.first { $0.address == source.address }?.ports ?? 0
        }
        filling = Filling(
            used: source.ports, possible: namespace.settings.possible, before: earlier,
            seconds: seconds, ended: ended)
    }
}

/// "any address" where it is not known.
package func address(_ address: IPAddress) -> String {
    address.isUnspecified ? "any address" : address.description
}

extension Survey {
    /// The destinations of one of its namespaces, busiest first.
    ///
    /// - Parameter earlier: a look some time before, for rates.
    package func pressures(
        _ namespace: NamespaceSurvey, since earlier: Survey?
    ) -> [DestinationPressure] {
        let before = earlier?.namespace(like: namespace)
        let seconds = earlier.map { Double(time - $0.time) / 1e9 } ?? 0
        func all(_ survey: TransportSurvey, _ transport: Transport) -> [DestinationPressure] {
            survey.destinations.map {
                DestinationPressure($0, transport, namespace, before: before, seconds: seconds)
            }
        }
        return (all(namespace.tcp, .tcp) + all(namespace.udp, .udp)).sorted {
            $0.filling.used > $1.filling.used
        }
    }
}

extension Survey {
    /// The destinations of the sockets in a range of ports, namespace by namespace, busiest first.
    ///
    /// - Parameters:
    ///   - range: one that was looked at by itself.
    ///   - earlier: a look some time before, for rates.
    package func pressures(
        in range: ClosedRange<UInt16>, since earlier: Survey?
    ) -> [DestinationPressure] {
        namespaces.compactMap { $0.confined(to: range) }.flatMap {
            pressures($0, since: earlier?.confined(to: range))
        }
    }

    /// In each namespace the address with most UDP ports of a range in use, whatever the
    /// destination; of a range that was looked at by itself.
    func fullestSources(in range: ClosedRange<UInt16>, since earlier: Survey?) -> [SourcePressure] {
        let (now, before) = (confined(to: range), earlier?.confined(to: range))
        return now.namespaces.compactMap { now.fullestSource($0, since: before) }
    }

    /// The address with most UDP ports in use. Wildcards count at every address: the fullest says
    /// it for all.
    func fullestSource(_ namespace: NamespaceSurvey, since earlier: Survey?) -> SourcePressure? {
        let before = earlier?.namespace(like: namespace)?.udp
        let seconds = earlier.map { Double(time - $0.time) / 1e9 } ?? 0
        let ended = Set(before?.inodes ?? []).subtracting(namespace.udp.inodes).count
        return namespace.udp.sources.map {
            SourcePressure($0, namespace, before: before, seconds: seconds, ended: ended)
        }.max { $0.filling.used < $1.filling.used }
    }

    /// What was seen as if that range were all that there is to choose from.
    private func confined(to range: ClosedRange<UInt16>) -> Survey {
        var confined = self
        confined.namespaces = namespaces.compactMap { $0.confined(to: range) }
        return confined
    }
}

extension Evidence {
    /// The destinations of one namespace, busiest first.
    package func pressures(_ namespace: NamespaceSurvey) -> [DestinationPressure] {
        survey.pressures(namespace, since: earlier)
    }
}
