// SPDX-License-Identifier: Apache-2.0
// What an agent without a guard found by looking at all sockets.

import TupleguardLinux
package import TupleguardSockets

/// A socket that shares its tuple with others, and the processes that have it open.
package struct SharedSocket: Codable, Hashable, Sendable, CustomStringConvertible {
    /// SO_COOKIE in decimal: a number that JSON's readers may not have room for.
    package let cookie: String
    /// Owner of the socket.
    package let uid: UInt32
    /// Path of its cgroup; nil when it is not known.
    package let cgroup: String?
    /// Empty where they may not be seen, or where no process has it open.
    package let processes: [ProcessIdentity]
    /// Of one that may receive: on which processors the kernel's look-up finds it. Nil of others.
    package var foundOn: [Int32]?

    package init(cookie: UInt64, uid: UInt32, cgroup: String?, processes: [ProcessIdentity]) {
        self.cookie = String(cookie)
        self.uid = uid
        self.cgroup = cgroup
        self.processes = processes
    }

    /// "curl (pid 4711, uid 1000) and 2 more in /user.slice"
    package var description: String {
        let first = processes.first ?? ProcessIdentity(pid: 0, uid: uid, command: nil)
        let more = processes.count > 1 ? " and \(processes.count - 1) more" : ""
        return first.nameAndNumbers + more + (cgroup.map { " in \(placeName(ofCgroup: $0))" } ?? "")
    }
}

extension SharedSocket {
    private enum CodingKeys: CodingKey {
        case cookie, uid, cgroup, pod, pid, command, processes, foundOn
    }

    /// With the first process by itself too, which is most often the only one.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(cookie, forKey: .cookie)
        try container.encode(uid, forKey: .uid)
        try container.encodeIfPresent(cgroup, forKey: .cgroup)
        try container.encodeIfPresent(
            cgroup.flatMap(PodNames.system.pod), forKey: .pod)
        try container.encodeIfPresent(processes.first?.pid, forKey: .pid)
        try container.encodeIfPresent(processes.first?.command, forKey: .command)
        try container.encode(processes, forKey: .processes)
        try container.encodeIfPresent(foundOn, forKey: .foundOn)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        cookie = try container.decode(String.self, forKey: .cookie)
        uid = try container.decode(UInt32.self, forKey: .uid)
        cgroup = try container.decodeIfPresent(String.self, forKey: .cgroup)
        processes = try container.decode([ProcessIdentity].self, forKey: .processes)
        foundOn = try container.decodeIfPresent([Int32].self, forKey: .foundOn)
    }
}

/// A tuple with several sockets, when it was found or when it was over.
package struct ScanEvent: ConflictEvent {
    package static let source = ConflictSource.scan

    package enum Action: String, Codable, Sendable {
        case found
        case ended
    }

    /// When a scan found it so.
    package let time: Timestamp
    package let action: Action
    /// When a scan found it first; it may be older by the interval between two.
    package let firstTime: Timestamp
    package let tuple: FourTuple
    /// What people call it; the guard's conflicts have a number.
    package let networkNamespaceName: String
    package let sides: ShadowSides

    package init(
        time: Timestamp, tuple: FourTuple, networkNamespaceName: String, sides: ShadowSides
    ) {
        self.init(
            time: time, action: .found, firstTime: time, tuple: tuple,
            networkNamespaceName: networkNamespaceName, sides: sides)
    }

    private init(
        time: Timestamp, action: Action, firstTime: Timestamp, tuple: FourTuple,
        networkNamespaceName: String, sides: ShadowSides
    ) {
        self.time = time
        self.action = action
        self.firstTime = firstTime
        self.tuple = tuple
        self.networkNamespaceName = networkNamespaceName
        self.sides = sides
    }

    /// The end of what this event tells of.
    package func ended(at time: Timestamp) -> ScanEvent {
        ScanEvent(
            time: time, action: .ended, firstTime: firstTime, tuple: tuple,
            networkNamespaceName: networkNamespaceName, sides: sides)
    }

    /// The cookies of all its sockets, which no other tuple has.
    package var cookies: Set<String> { Set(sides.all.map(\.cookie)) }

    package func namingCgroups(_ path: (UInt64) -> String?) -> ScanEvent { self }

    package var line: String {
        let subject = "\(tuple) in \(printable(networkNamespaceName))"
        guard action == .found else {
            return "scan: \(subject) is overshadowed no more; it was since \(firstTime)"
        }
        return "scan: found \(subject): \(sides)"
    }
}

extension ScanEvent {
    private enum CodingKeys: CodingKey {
        case source, time, action, firstTime, networkNamespaceName
    }

    package func encode(to encoder: any Encoder) throws {
        try tuple.encodeEnds(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(Self.source, forKey: .source)
        try container.encode(time, forKey: .time)
        try container.encode(action, forKey: .action)
        try container.encode(firstTime, forKey: .firstTime)
        try container.encode(networkNamespaceName, forKey: .networkNamespaceName)
        try sides.encode(to: encoder)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            time: try container.decode(Timestamp.self, forKey: .time),
            action: try container.decode(Action.self, forKey: .action),
            firstTime: try container.decode(Timestamp.self, forKey: .firstTime),
            tuple: try FourTuple(endsFrom: decoder),
            networkNamespaceName: try container.decode(String.self, forKey: .networkNamespaceName),
            sides: try ShadowSides(from: decoder))
    }
}
