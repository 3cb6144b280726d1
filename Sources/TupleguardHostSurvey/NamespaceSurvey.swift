// SPDX-License-Identifier: Apache-2.0
// A look at the sockets of one network namespace.

import Glibc
package import TupleguardLinux
import TupleguardSocketDiag
package import TupleguardSockets

/// What one network namespace has.
package struct NamespaceSurvey: Sendable {
    package let namespace: NetworkNamespace
    package let settings: PortSettings
    package internal(set) var tcp = TransportSurvey()
    package internal(set) var udp = TransportSurvey()
    package internal(set) var shadows: [Shadow] = []
    /// The same of ranges that were asked for, whatever the kernel chooses from.
    package internal(set) var ranges: [RangeSurvey] = []
    /// Nil where the kernel tracks no connections, or where nobody looked.
    package internal(set) var translation: TranslationSurvey?

    package init(namespace: NetworkNamespace, settings: PortSettings) {
        self.namespace = namespace
        self.settings = settings
    }

    /// What the sockets come to whose local port is in one of `ranges`.
    package struct RangeSurvey: Sendable {
        package let range: ClosedRange<UInt16>
        var tcp = TransportSurvey()
        var udp = TransportSurvey()
    }

    /// The same namespace as if one of `ranges` were all that there is to choose from.
    package func confined(to range: ClosedRange<UInt16>) -> NamespaceSurvey? {
        guard let sockets = ranges.first(where: { $0.range == range }) else { return nil }
        var confined = NamespaceSurvey(
            namespace: namespace, settings: settings.confined(to: range))
        (confined.tcp, confined.udp) = (sockets.tcp, sockets.udp)
        return confined
    }

    package subscript(transport: Transport) -> TransportSurvey {
        switch transport {
        case .tcp: tcp
        case .udp: udp
        }
    }
}

extension NamespaceSurvey {
    /// Of the calling thread's namespace.
    init(
        of namespace: NetworkNamespace, _ scope: Survey.Scope, _ ranges: [ClosedRange<UInt16>]
    ) throws(Errno) {
        self.init(namespace: namespace, settings: .current())
        self.ranges = ranges.map { RangeSurvey(range: $0) }
        // What the kernel fills at a time (netlink_dump).
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 * 1024, alignment: 8)
        defer { buffer.deallocate() }
        var diag = try SocketDiag()
        if scope.contains(.ports) { try lookAtTCP(&diag, buffer) }
        try lookAtUDP(scope, &diag, buffer)
        if scope.contains(.translations) { translation = .current(buffer: buffer) }
    }

    /// For all that the kernel chooses from, and then for each of the ranges of guarded cgroups.
    private func tallies(_ transport: Transport) -> [TransportTally] {
        [TransportTally(transport, settings, isGuarded: false)]
            + ranges.map {
                TransportTally(transport, settings.confined(to: $0.range), isGuarded: true)
            }
    }

    private mutating func lookAtTCP(
        _ diag: inout SocketDiag, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        var tallies = tallies(.tcp)
        var listeners = SocketDiag.Filter()
        listeners.states = 1 << 10  // TCP_LISTEN
        for family in [AF_INET, AF_INET6] {
            try diag.list(.tcp, family: family, filter: listeners, buffer: buffer) {
                for index in tallies.indices { tallies[index].addListener($0) }
            }
        }
        for family in [AF_INET, AF_INET6] {
            try diag.list(.tcp, family: family, buffer: buffer) {
                for index in tallies.indices { tallies[index].add($0) }
            }
        }
        tcp = tallies[0].finish()
        for index in ranges.indices { ranges[index].tcp = tallies[index + 1].finish() }
    }

    private mutating func lookAtUDP(
        _ scope: Survey.Scope, _ diag: inout SocketDiag, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        var tallies = tallies(.udp)
        var search = ShadowSearch()
        for family in [AF_INET, AF_INET6] {
            try diag.list(.udp, family: family, buffer: buffer) { record in
                if scope.contains(.ports) {
                    for index in tallies.indices { tallies[index].add(record) }
                }
                if scope.contains(.shadows) { search.add(record) }
            }
        }
        shadows = try search.finish(in: namespace, &diag, buffer: buffer)
        udp = tallies[0].finish()
        for index in ranges.indices { ranges[index].udp = tallies[index + 1].finish() }
    }
}
