// SPDX-License-Identifier: Apache-2.0
// A look at all TCP and UDP sockets of the host, namespace by namespace.

import Glibc
package import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// What one network namespace has.
package struct NamespaceSurvey: Sendable {
    package let namespace: NetworkNamespace
    package let settings: PortSettings
    package internal(set) var tcp = TransportSurvey()
    package internal(set) var udp = TransportSurvey()
    package internal(set) var shadows: [Shadow] = []

    package init(namespace: NetworkNamespace, settings: PortSettings) {
        self.namespace = namespace
        self.settings = settings
    }
}

/// What was seen of the host, and what was not.
package struct Survey: Sendable {
    package internal(set) var namespaces: [NamespaceSurvey] = []
    /// Namespaces that could not be entered, each with the reason.
    package internal(set) var unseen: [(namespace: NetworkNamespace, why: String)] = []
    /// Whether there are processes of which we may not know in which namespace they are.
    package internal(set) var hasHiddenProcesses: Bool
    /// Nanoseconds of CLOCK_MONOTONIC when the looking began.
    package let time: UInt64

    package var shadows: [Shadow] { namespaces.flatMap(\.shadows) }

    /// The namespaces that were not seen, in a sentence; nil when all were.
    package var unseenNamespaces: String? {
        var parts = unseen.prefix(3).map { "\($0.namespace.name): \($0.why)" }
        if unseen.count > 3 { parts.append("\(unseen.count - 3) more network namespaces") }
        if hasHiddenProcesses {
            parts.append("network namespaces of processes that we may not look at")
        }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }

    /// The sockets whose owners are worth naming, save those of `shadows`.
    package var inodes: [UInt32] {
        namespaces.flatMap { namespace in
            namespace.tcp.solePorts.map(\.inode) + namespace.udp.inodes
                + namespace.tcp.destinations.flatMap(\.inodes)
        }
    }

    /// What to look at.
    package struct Scope: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }

        /// TCP and UDP sockets added up.
        package static let ports = Scope(rawValue: 1)
        /// Tuples with several sockets.
        package static let shadows = Scope(rawValue: 2)
    }

    /// Looks at the namespaces one after the other. Costs about a microsecond for each socket.
    ///
    /// - Throws: what netlink refuses us in our own namespace. Others that fail are among `unseen`.
    package init(_ selection: NetworkNamespace.Selection, _ scope: Scope) throws {
        time = KernelClock.monotonic
        let selected = NetworkNamespace.find(selection)
        hasHiddenProcesses = selected.hasHidden
        for namespace in selected.namespaces {
            do {
                namespaces.append(
                    try namespace.inside { try NamespaceSurvey(of: namespace, scope) })
            } catch {
                if namespace.isOwn { throw error }
                // One that is gone has no sockets either.
                guard (error as? Errno)?.number != ENOENT else { continue }
                unseen.append((namespace, "\(error)"))
            }
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
    }

    private static func tcp(
        _ settings: PortSettings, _ diag: inout SocketDiag, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> TransportSurvey {
        var tally = TransportTally(.tcp, settings)
        var listeners = SocketDiag.Filter()
        listeners.states = 1 << 10
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
