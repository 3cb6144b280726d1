// SPDX-License-Identifier: Apache-2.0
// What a program that uses connectx ran into, as it gave notice of it to the agent.

package import ConnectxCore
import TupleguardSockets

/// A notice that was heard, and who sent it.
package struct ConnectxEvent: ConflictEvent {
    package static let source = ConflictSource.connectx

    package let time: Timestamp
    package let notice: Notice
    /// From the credentials that the kernel attached to the notice, and from /proc.
    package var sender: ProcessIdentity

    package init(time: Timestamp, notice: Notice, sender: ProcessIdentity) {
        self.time = time
        self.notice = notice
        self.sender = sender
    }

    package func namingCgroups(_ path: (UInt64) -> String?) -> ConnectxEvent {
        ConnectxEvent(time: time, notice: notice, sender: sender.namingCgroup(path))
    }

    /// What it is about: the tuple, or the destination where no port was left for it.
    package var subject: String {
        notice.kind == .exhausted
            ? "no port left for \(notice.tuple.remote)" : "\(notice.tuple)"
    }

    package var line: String {
        let times = notice.count == 1 ? "" : " \(notice.count) times"
        return
            "connectx: \(subject) (\(notice.transport.name)), reported\(times) by \(sender): \(notice.kind.explanation)"
    }
}

extension ConnectxEvent {
    private enum CodingKeys: CodingKey {
        case source, time, reason, transport, count, sender
    }

    package func encode(to encoder: any Encoder) throws {
        try notice.tuple.encodeEnds(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Self.source, forKey: .source)
        try container.encode(time, forKey: .time)
        try container.encode(notice.kind.name, forKey: .reason)
        try container.encode(notice.transport.name, forKey: .transport)
        try container.encode(notice.count, forKey: .count)
        try container.encode(sender, forKey: .sender)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        func named<Value: CaseIterable>(
            _ key: CodingKeys, _ name: (Value) -> String
        ) throws -> Value {
            let text = try container.decode(String.self, forKey: key)
            guard let value = Value.allCases.first(where: { name($0) == text }) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: container, debugDescription: "a value of another version")
            }
            return value
        }
        let notice = Notice(
            kind: try named(.reason) { (kind: Notice.Kind) in kind.name },
            transport: try named(.transport) { (transport: Transport) in
                transport.name
            },
            tuple: try FourTuple(endsFrom: decoder),
            count: try container.decode(UInt32.self, forKey: .count))
        self.init(
            time: try container.decode(Timestamp.self, forKey: .time), notice: notice,
            sender: try container.decode(ProcessIdentity.self, forKey: .sender))
    }
}

extension Notice.Kind {
    /// A stable name, for machines.
    package var name: String {
        switch self {
        case .conflict: "conflict"
        case .lostRace: "lost-race"
        case .exhausted: "exhausted"
        }
    }

    /// For people, after "because".
    package var explanation: String {
        switch self {
        case .conflict: "another socket has the tuple that the program asked for"
        case .lostRace: "another socket took the tuple while the program was about to"
        case .exhausted: "no local port is free for this destination"
        }
    }
}

extension Transport {
    package var name: String {
        switch self {
        case .tcp: "tcp"
        case .udp: "udp"
        }
    }
}
