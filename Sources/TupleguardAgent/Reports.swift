// SPDX-License-Identifier: Apache-2.0
// The shapes in which the guard's records leave the program as JSON. Their
// field names are stable: scripts and monitoring lean on them.

import FoundationEssentials
import Glibc
package import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Encodes what a program is to read: one line, keys in alphabetical order.
package func encodeJSON(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    // Numbers, strings and arrays of them: nothing that an encoder can refuse.
    return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
}

/// Decodes what `encodeJSON` made; nil for anything else.
func decodeJSON<Value: Decodable>(_ text: String) -> Value? {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try? decoder.decode(Value.self, from: Data(text.utf8))
}

/// Nanoseconds since 1970 as RFC 3339 in UTC: "2026-01-31T12:00:00.000Z".
package func timestamp(_ nanoseconds: UInt64) -> String {
    var seconds = time_t(nanoseconds / 1_000_000_000)
    var fields = tm()
    gmtime_r(&seconds, &fields)
    let milliseconds = Int32(nanoseconds / 1_000_000 % 1000)
    func digits(_ number: Int32, _ width: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, width - text.count)) + text
    }
    let date =
        "\(digits(fields.tm_year + 1900, 4))-\(digits(fields.tm_mon + 1, 2))-\(digits(fields.tm_mday, 2))"
    let time =
        "\(digits(fields.tm_hour, 2)):\(digits(fields.tm_min, 2)):\(digits(fields.tm_sec, 2))"
    return "\(date)T\(time).\(digits(milliseconds, 3))Z"
}

/// What `timestamp` says, in nanoseconds since 1970 to the millisecond; nil for other text.
package func nanoseconds(of timestamp: String) -> UInt64? {
    let numbers = timestamp.split { !$0.isASCII || !$0.isNumber }.compactMap { Int32($0) }
    guard numbers.count == 7 else { return nil }
    var fields = tm()
    (fields.tm_year, fields.tm_mon, fields.tm_mday) = (
        numbers[0] - 1900, numbers[1] - 1, numbers[2]
    )
    (fields.tm_hour, fields.tm_min, fields.tm_sec) = (numbers[3], numbers[4], numbers[5])
    let seconds = timegm(&fields)
    guard seconds >= 0 else { return nil }
    let time = UInt64(seconds) * 1_000_000_000 + UInt64(numbers[6]) * 1_000_000
    // Which makes nothing of a 13th month, nor of another form.
    return TupleguardAgent.timestamp(time) == timestamp ? time : nil
}

/// A process in a report.
package struct ProcessReport: Codable, Sendable {
    package let pid: UInt32
    package let uid: UInt32
    package let command: String
    package let cgroup: String?
    package let cgroupId: UInt64

    /// Nil for a process of which nothing is known.
    package init?(_ process: Process, cgroups: CgroupNames) {
        guard process.isKnown || process.cgroup != 0 || process.uid != 0 else { return nil }
        pid = process.pid
        uid = process.uid
        command = process.command
        cgroup = cgroups.path(of: process.cgroup)
        cgroupId = process.cgroup
    }

    /// "curl (pid 4711, uid 0) in /user.slice"
    package var description: String {
        let who =
            pid == 0
            ? "a process that is not known (uid \(uid))" : "\(command) (pid \(pid), uid \(uid))"
        guard let cgroup else { return printable(who) }
        return printable("\(who) in \(cgroup)")
    }
}

/// One conflict as it happened.
package struct ConflictEventReport: Codable, Sendable {
    /// Nil from an agent that knew no other source.
    package let source: ConflictSource?
    package let time: String
    package let action: String
    package let reason: String
    package let local: String
    package let remote: String
    package let networkNamespace: UInt32
    package let guardedCgroup: String?
    package let guardedCgroupId: UInt64
    package let claimant: ProcessReport?
    package let holder: ProcessReport?

    package init(_ event: ConflictEvent, cgroups: CgroupNames) {
        source = .kernel
        time = timestamp(event.time)
        action = event.wasFound ? "found" : event.wasAllowed ? "observed" : "refused"
        reason = event.reason.name
        local = event.tuple.local.description
        remote = event.tuple.remote.description
        networkNamespace = event.networkNamespace
        guardedCgroup = cgroups.path(of: event.attachment)
        guardedCgroupId = event.attachment
        claimant = ProcessReport(event.claimant, cgroups: cgroups)
        holder = ProcessReport(event.holder, cgroups: cgroups)
    }

    /// Decodes what `json` made of one; nil for anything else.
    package init?(json line: String) {
        guard let report: Self = decodeJSON(line) else { return nil }
        self = report
    }

    /// One line for people.
    package var line: String {
        let why = Reason.allCases.first { $0.name == reason }?.explanation ?? reason
        let holder = self.holder.map { ", held by \($0.description)" } ?? ""
        let claimant = self.claimant?.description ?? "unknown"
        if reason == Reason.exhausted.name { return "\(action) \(remote) for \(claimant): \(why)" }
        return "\(action) \(local) -> \(remote) for \(claimant)\(holder): \(why)"
    }
}

/// All conflicts of one tuple.
package struct ConflictReport: Encodable, Sendable {
    package let source = ConflictSource.kernel
    package let count: UInt64
    package let firstTime: String
    package let lastTime: String
    package let last: ConflictEventReport

    package init(_ conflict: Conflict, cgroups: CgroupNames) {
        count = conflict.count
        firstTime = timestamp(conflict.first)
        lastTime = timestamp(conflict.last.time)
        last = ConflictEventReport(conflict.last, cgroups: cgroups)
    }
}

/// Paths of cgroups by id, each looked up once; a bounded number is remembered.
package final class CgroupNames {
    private let hierarchy: CgroupHierarchy?
    private var known: [UInt64: String?] = [:]

    package init() {
        hierarchy = try? CgroupHierarchy()
    }

    package func path(of id: UInt64) -> String? {
        if id == 0 { return nil }
        if let path = known[id] { return path }
        let path = hierarchy?.path(of: id)
        if known.count >= 1024 { known = [:] }
        known[id] = path
        return path
    }
}
