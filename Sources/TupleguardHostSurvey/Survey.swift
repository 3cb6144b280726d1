// SPDX-License-Identifier: Apache-2.0
// A look at all TCP and UDP sockets of the host, namespace by namespace.

import Glibc
package import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// What was seen of the host, and what was not.
package struct Survey: Sendable {
    package var namespaces: [NamespaceSurvey] = []
    /// Namespaces that could not be entered, each with the reason.
    package internal(set) var unseen: [(namespace: NetworkNamespace, why: String)] = []
    /// Whether there are processes of which we may not know in which namespace they are.
    package internal(set) var hasHiddenProcesses: Bool
    /// Nanoseconds of CLOCK_MONOTONIC when the looking began.
    package let time: UInt64

    package var shadows: [Shadow] { namespaces.flatMap(\.shadows) }
    /// The same network namespace at another look; nil where it was not there yet, or not seen.
    package func namespace(like other: NamespaceSurvey) -> NamespaceSurvey? {
        namespaces.first { $0.namespace.inode == other.namespace.inode }
    }

    /// Sockets that receive nothing: all but one of those that share a tuple.
    package var overshadowedCount: Int { shadows.reduce(0) { $0 + $1.members.count - 1 } }

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
        var inodes: [UInt32] = []
        for namespace in namespaces {
            inodes += namespace.tcp.solePorts.map(\.inode)
            inodes += namespace.udp.inodes
            inodes += namespace.tcp.destinations.flatMap(\.inodes)
            for range in namespace.ranges {
                inodes += range.tcp.destinations.flatMap(\.inodes)
                inodes += range.udp.destinations.flatMap(\.inodes)
            }
        }
        return inodes
    }

    /// What to look at.
    package struct Scope: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }

        /// TCP and UDP sockets added up.
        package static let ports = Scope(rawValue: 1)
        /// Tuples with several sockets.
        package static let shadows = Scope(rawValue: 2)
        /// Tracked connections, and the ports that source NAT has given out.
        package static let translations = Scope(rawValue: 4)
    }

    /// Looks at the namespaces one after the other. Costs about a microsecond for each socket.
    ///
    /// - Parameter ranges: of ports to look at by themselves too.
    /// - Throws: `SurveyError` for our own namespace. Others that fail are among `unseen`.
    package init(
        _ selection: NetworkNamespace.Selection, _ scope: Scope,
        ranges: [ClosedRange<UInt16>] = []
    ) throws {
        time = KernelClock.monotonic
        let selected = NetworkNamespace.find(selection)
        hasHiddenProcesses = selected.hasHidden
        for namespace in selected.namespaces {
            do {
                namespaces.append(
                    try namespace.inside { try NamespaceSurvey(of: namespace, scope, ranges) })
            } catch {
                if namespace.isOwn { throw (error as? Errno).map(SurveyError.init) ?? error }
                // One that is gone has no sockets either.
                guard (error as? Errno)?.number != ENOENT else { continue }
                unseen.append((namespace, "\(error)"))
            }
        }
    }
}
