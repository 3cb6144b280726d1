// SPDX-License-Identifier: Apache-2.0
// What the doctor says: how bad, what, how it is known, what to do.

package import TupleguardLinux
package import TupleguardRecords

/// How soon somebody has to act.
package enum Severity: String, Codable, CaseIterable, Comparable, Sendable {
    /// Worth knowing; nothing is failing.
    case info
    /// Will fail if it goes on.
    case warning
    /// Failing now, or within minutes.
    case critical

    package static func < (a: Severity, b: Severity) -> Bool { a.rank < b.rank }
    private var rank: Int { Self.allCases.firstIndex(of: self)! }
}

/// One diagnosis.
package struct Finding: Encodable, Sendable {
    /// What it is about: stable names, for machines.
    package enum Kind: String, Encodable, CaseIterable, Sendable {
        case destinationFilling = "destination-filling"
        case sourceFilling = "source-filling"
        case smallRange = "small-range"
        case fragmentedRange = "fragmented-range"
        case timeWait = "time-wait"
        case lockedPorts = "locked-ports"
        case translationFilling = "snat-filling"
        case conntrackTable = "conntrack-table"
        case overshadowed
        case udpProgramNearLimit = "udp-program-near-limit"
        case descriptors
        case hostFiles = "host-files"
        case staleTupleHash = "stale-tuple-hash"
        case closedPorts = "closed-ports"
        case unguarded
        case guardTooLow = "guard-too-low"
        case guardFollowed = "guard-followed"
        case guardTableFull = "guard-table-full"
        case guardEventsDropped = "guard-events-dropped"
        case guardWithoutAgent = "guard-without-agent"
        case ownPortsFilling = "own-ports-filling"
        case ownPortsUnreserved = "own-ports-unreserved"
        case ownPortsOverlap = "own-ports-overlap"
        case ownPortsPrivileged = "own-ports-privileged"
        case connectionsFilling = "connections-filling"
    }

    /// What to do, and how.
    package struct Remedy: Encodable, Hashable, Sendable {
        package let text: String
        /// A command or a line of code, to be taken as it is: names in it are quoted for a shell.
        package let code: String?

        package init(_ text: String, _ code: String? = nil) {
            self.text = text
            self.code = code
        }
    }

    /// A process and its part in this.
    package struct Involved: Encodable, Hashable, Sendable {
        package let process: ProcessIdentity
        /// What it is doing here: "receives", "40 sockets".
        package let role: String

        package init(_ process: ProcessIdentity, _ role: String) {
            self.process = process
            self.role = role
        }

        package var description: String {
            let place = process.pod.map { " in \($0)" } ?? ""
            return "\(process.nameAndNumbers)\(place): \(role)"
        }

        private enum CodingKeys: CodingKey {
            case role
        }

        /// The process, with one field more.
        package func encode(to encoder: any Encoder) throws {
            try process.encode(to: encoder)
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(role, forKey: .role)
        }
    }

    package let severity: Severity
    package let kind: Kind
    /// One sentence.
    package let what: String
    /// Where; nil for the whole host.
    package let networkNamespaceName: String?
    package let protocolName: String?
    package let local: String?
    package let remote: String?
    /// The figures behind it, by stable names.
    package var numbers: [String: Int] = [:]
    /// What part of something is used up, 0 to 1; for a bar.
    package let usage: Double?
    /// At the present rate; nil where nothing is filling.
    package let secondsUntilFull: Double?
    /// More for people: each a sentence.
    package let notes: [String]
    package let processes: [Involved]
    package let remedies: [Remedy]

    enum CodingKeys: String, CodingKey {
        case severity, kind, what, networkNamespaceName, local, remote, numbers, usage
        case secondsUntilFull, notes, processes, remedies
        case protocolName = "protocol"
    }

    package init(
        _ severity: Severity, _ kind: Kind, _ what: String, in namespace: NetworkNamespace? = nil,
        protocolName: String? = nil, local: String? = nil, remote: String? = nil,
        numbers: [String: Int] = [:], usage: Double? = nil, secondsUntilFull: Double? = nil,
        notes: [String] = [], processes: [Involved] = [], remedies: [Remedy] = []
    ) {
        self.severity = severity
        self.kind = kind
        self.what = what
        networkNamespaceName = namespace?.name
        self.protocolName = protocolName
        self.local = local
        self.remote = remote
        self.numbers = numbers
        self.usage = usage
        self.secondsUntilFull = secondsUntilFull
        self.notes = notes
        self.processes = processes
        self.remedies = remedies
    }

    /// Whether it comes before `other`: the worse, then what is full sooner, then what is fuller.
    package func isMoreUrgent(than other: Finding) -> Bool {
        if severity != other.severity { return severity > other.severity }
        let (time, otherTime) = (
            secondsUntilFull ?? .infinity, other.secondsUntilFull ?? .infinity
        )
        if time != otherTime { return time < otherTime }
        return (usage ?? 0) > (other.usage ?? 0)
    }
}
