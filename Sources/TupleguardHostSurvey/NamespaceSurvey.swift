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
    /// Nil where the kernel tracks no connections, or where nobody looked.
    package internal(set) var translation: TranslationSurvey?

    package init(namespace: NetworkNamespace, settings: PortSettings) {
        self.namespace = namespace
        self.settings = settings
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
    init(of namespace: NetworkNamespace, _ scope: Survey.Scope) throws(Errno) {
        self.init(namespace: namespace, settings: .current())
        // What the kernel fills at a time (netlink_dump).
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 * 1024, alignment: 8)
        defer { buffer.deallocate() }
        var diag = try SocketDiag()
        if scope.contains(.ports) { tcp = try Self.tcp(settings, &diag, buffer) }
        try lookAtUDP(scope, &diag, buffer)
        if scope.contains(.translations) { translation = .current(buffer: buffer) }
    }

    private static func tcp(
        _ settings: PortSettings, _ diag: inout SocketDiag, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> TransportSurvey {
        var tally = TransportTally(.tcp, settings)
        var listeners = SocketDiag.Filter()
        listeners.states = 1 << 10  // TCP_LISTEN
        for family in [AF_INET, AF_INET6] {
            try diag.list(.tcp, family: family, filter: listeners, buffer: buffer) {
                tally.addListener($0)
            }
        }
        for family in [AF_INET, AF_INET6] {
            try diag.list(.tcp, family: family, buffer: buffer) { tally.add($0) }
        }
        return tally.finish()
    }

    private mutating func lookAtUDP(
        _ scope: Survey.Scope, _ diag: inout SocketDiag, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        var tally = TransportTally(.udp, settings)
        var search = ShadowSearch()
        for family in [AF_INET, AF_INET6] {
            try diag.list(.udp, family: family, buffer: buffer) { record in
                if scope.contains(.ports) { tally.add(record) }
                if scope.contains(.shadows) { search.add(record) }
            }
        }
        shadows = try search.finish(in: namespace, &diag, buffer: buffer)
        udp = tally.finish()
    }
}
