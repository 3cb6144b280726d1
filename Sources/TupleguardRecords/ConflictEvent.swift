// SPDX-License-Identifier: Apache-2.0
// A conflict as it was seen, by whoever saw it: what the log, `conflicts` and the agent's event
// stream tell.

/// Who saw a conflict.
package enum ConflictSource: String, Codable, Sendable {
    /// The guard's programs, which cannot be deceived.
    case `guard`
    /// A program that uses connectx. It may say what it likes; only who it is comes from the
    /// kernel.
    case connectx
    /// An agent that looks at all sockets now and then.
    case scan

    /// Reads also what agents up to version 0.1 wrote.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        switch try container.decode(String.self) {
        case "guard", "kernel": self = .guard
        case "connectx", "userspace": self = .connectx
        case "scan": self = .scan
        default:
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a source of another version")
        }
    }
}

/// One conflict as it happened. As JSON it has at least `source`, `time`, `local` and `remote`.
package protocol ConflictEvent: Codable, Sendable {
    static var source: ConflictSource { get }
    var time: Timestamp { get }
    /// One line for people, without the time.
    var line: String { get }
    /// The same event with the paths of cgroups of which it has only the id.
    func namingCgroups(_ path: (UInt64) -> String?) -> Self
}

/// A line of the agent's event stream, decoded as what its `source` says it is.
package struct FollowedEvent: Decodable {
    package let event: any ConflictEvent

    private enum CodingKeys: CodingKey {
        case source
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        // An agent that had one source did not name it.
        switch try container.decodeIfPresent(ConflictSource.self, forKey: .source) ?? .guard {
        case .guard: event = try GuardEvent(from: decoder)
        case .connectx: event = try ConnectxEvent(from: decoder)
        case .scan: event = try ScanEvent(from: decoder)
        }
    }
}

/// All events of one kind about one tuple.
package struct Conflict<Event: ConflictEvent>: Sendable {
    /// How often it happened.
    package var count: UInt64
    package let first: Timestamp
    package var last: Event

    package init(count: UInt64, first: Timestamp, last: Event) {
        self.count = count
        self.first = first
        self.last = last
    }

    package func namingCgroups(_ path: (UInt64) -> String?) -> Self {
        Conflict(count: count, first: first, last: last.namingCgroups(path))
    }
}

extension Conflict: Codable {
    private enum CodingKeys: CodingKey {
        case source, count, firstTime, lastTime, last
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Event.source, forKey: .source)
        try container.encode(count, forKey: .count)
        try container.encode(first, forKey: .firstTime)
        try container.encode(last.time, forKey: .lastTime)
        try container.encode(last, forKey: .last)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            count: try container.decode(UInt64.self, forKey: .count),
            first: try container.decode(Timestamp.self, forKey: .firstTime),
            last: try container.decode(Event.self, forKey: .last))
    }
}
