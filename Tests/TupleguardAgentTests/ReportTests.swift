// SPDX-License-Identifier: Apache-2.0
// What leaves the program as JSON: field names that scripts may lean on, times, sentences.

import Testing

@testable import TupleguardAgent
@testable import TupleguardKernel

struct JSONTests {
    @Test("Fields in snake case and alphabetical order, on one line, slashes as they are")
    func encoding() {
        struct Sample: Encodable {
            let zebra = 1
            let camelCaseName = "/a/b"
            let cgroupId: UInt64 = .max
            let isNot: Bool? = nil
            let nested = ["b", "a\n\"\\"]
        }
        #expect(
            encodeJSON(Sample())
                == #"{"camel_case_name":"/a/b","cgroup_id":18446744073709551615,"nested":["b","a\n\"\\"],"zebra":1}"#
        )
    }

    @Test("The keys of a dictionary are data, and stay as they are")
    func dictionaries() {
        #expect(
            encodeJSON(["refused_held": UInt64(1), "camelCase": 2])
                == #"{"camelCase":2,"refused_held":1}"#)
    }

    @Test("Nothing")
    func empty() {
        #expect(encodeJSON([String]()) == "[]")
        #expect(encodeJSON([String: Int]()) == "{}")
    }
}

struct TimestampTests {
    @Test(
        "RFC 3339 in UTC, to the millisecond, rounded down",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"),
            (999_999, "1970-01-01T00:00:00.000Z"),
            (1_000_000, "1970-01-01T00:00:00.001Z"),
            (999_999_999, "1970-01-01T00:00:00.999Z"),
            (1_000_000_000, "1970-01-01T00:00:01.000Z"),
            (1_769_860_800_000_000_000, "2026-01-31T12:00:00.000Z"),
            (1_769_860_800_012_000_000, "2026-01-31T12:00:00.012Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999Z"),
            (.max, "2554-07-21T23:34:33.709Z"),
        ] as [(UInt64, String)])
    func times(nanoseconds: UInt64, text: String) {
        #expect(timestamp(nanoseconds) == text)
    }
}

struct NanosecondsTests {
    @Test(
        "A timestamp read again, to the millisecond",
        arguments: [0, 1_000_000, 1_769_860_800_012_000_000, 1_709_251_199_999_000_000]
            as [UInt64])
    func roundTrip(time: UInt64) {
        #expect(nanoseconds(of: timestamp(time)) == time)
        #expect(nanoseconds(of: timestamp(time + 999_999)) == time)
    }

    @Test(
        "Other text is none",
        arguments: [
            "", "now", "2026-01-31", "2026-01-31T12:00:00Z", "2026-13-31T12:00:00.000Z",
            "2026-02-30T12:00:00.000Z", "2026-01-31 12:00:00.000", "1969-12-31T23:59:59.999Z",
            "2026-01-31T12:00:00.0000Z", "9999999999-01-31T12:00:00.000Z",
        ])
    func garbage(text: String) {
        #expect(nanoseconds(of: text) == nil)
    }
}

struct ConflictReportTests {
    private let cgroups = CgroupNames()

    @Test("The fields of an event are stable")
    func eventFields() {
        let event = makeEvent()
        #expect(
            encodeJSON(ConflictEventReport(event, cgroups: cgroups))
                == #"{"action":"refused","#
                + #""claimant":{"cgroup_id":18446744073709551614,"command":"client","pid":4711,"uid":1000},"#
                + #""guarded_cgroup_id":18446744073709551614,"#
                + #""holder":{"cgroup_id":0,"command":"server","pid":815,"uid":0},"#
                + #""local":"192.0.2.1:40000","network_namespace":3,"reason":"held","#
                + #""remote":"198.51.100.7:53","source":"kernel","time":"\#(timestamp(event.time))"}"#
        )
    }

    @Test("Processes that are not known are left out")
    func unknownProcesses() {
        let event = makeEvent(
            reason: .outside, attachment: 0, isHolderKnown: false, isClaimantKnown: false)
        #expect(
            encodeJSON(ConflictEventReport(event, cgroups: cgroups))
                == #"{"action":"refused","guarded_cgroup_id":0,"local":"192.0.2.1:40000","#
                + #""network_namespace":3,"reason":"outside","remote":"198.51.100.7:53","#
                + #""source":"kernel","time":"\#(timestamp(event.time))"}"#)
    }

    @Test("The fields of a tuple's conflicts are stable")
    func conflictFields() {
        let event = makeEvent()
        let conflict = Conflict(count: 17, first: 1_769_860_800_012_000_000, last: event)
        let last = encodeJSON(ConflictEventReport(event, cgroups: cgroups))
        #expect(
            encodeJSON(ConflictReport(conflict, cgroups: cgroups))
                == #"{"count":17,"first_time":"2026-01-31T12:00:00.012Z","last":\#(last),"#
                + #""last_time":"\#(timestamp(event.time))","source":"kernel"}"#)
    }

    /// With every field that there is.
    private static let complete =
        #"{"action":"refused","#
        + #""claimant":{"cgroup":"/a.slice/b","cgroup_id":12,"command":"client","pid":4711,"uid":1000},"#
        + #""guarded_cgroup":"/a.slice","guarded_cgroup_id":11,"#
        + #""holder":{"cgroup":"/c","cgroup_id":13,"command":"ser\"v\\er","pid":815,"uid":0},"#
        + #""local":"192.0.2.1:40000","network_namespace":3,"reason":"held","#
        + #""remote":"[2001:db8::7]:53","source":"kernel","time":"2026-01-31T12:00:00.012Z"}"#

    @Test("What was encoded decodes to the same again")
    func roundTrip() throws {
        let report = try #require(ConflictEventReport(json: Self.complete))
        #expect(encodeJSON(report) == Self.complete)
        #expect(report.action == "refused")
        #expect(report.guardedCgroup == "/a.slice")
        #expect(report.guardedCgroupId == 11)
        #expect(report.networkNamespace == 3)
        #expect(report.claimant?.cgroup == "/a.slice/b")
        #expect(report.claimant?.cgroupId == 12)
        #expect(report.holder?.command == #"ser"v\er"#)
        for reason in Reason.allCases {
            let json = encodeJSON(ConflictEventReport(makeEvent(reason: reason), cgroups: cgroups))
            #expect(ConflictEventReport(json: json).map { encodeJSON($0) } == json)
        }
    }

    @Test("Of an agent that knew one source only the lines can still be read")
    func withoutSource() throws {
        let json = Self.complete.replacing(#""source":"kernel","#, with: "")
        #expect(try #require(ConflictEventReport(json: json)).source == nil)
    }

    @Test("A field that a later version adds does not matter")
    func moreFields() throws {
        let json = #"{"zz_new":{"a":[1]},"# + Self.complete.dropFirst()
        #expect(try #require(ConflictEventReport(json: json)).claimant?.pid == 4711)
    }

    @Test("Anything else is no report")
    func garbage() {
        let complete = Self.complete
        for count in 0..<complete.count {
            #expect(ConflictEventReport(json: String(complete.prefix(count))) == nil, "\(count)")
        }
        for json in [
            "[]", "null", "{}", "\0", "refused", complete + complete, "[\(complete)]",
            complete.replacing("4711", with: "-1"), complete.replacing("4711", with: "4294967296"),
            complete.replacing("4711", with: #""4711""#), complete.replacing("4711", with: "1.5"),
            complete.replacing(#""time""#, with: #""tome""#),
        ] {
            #expect(ConflictEventReport(json: json) == nil, "\(json)")
        }
    }

    @Test(
        "What was done is told apart",
        arguments: [
            (Reason.held, false, "refused"), (.held, true, "observed"),
            (.tableFull, false, "refused"),
            (.existing, true, "found"), (.existing, false, "found"),
        ])
    func actions(reason: Reason, allowed: Bool, action: String) {
        let event = makeEvent(reason: reason, allowed: allowed)
        #expect(ConflictEventReport(event, cgroups: cgroups).action == action)
    }

    @Test("One line for people: what, to whom, who has it, why")
    func line() throws {
        let report = try #require(ConflictEventReport(json: Self.complete))
        #expect(
            report.line
                == #"refused 192.0.2.1:40000 -> [2001:db8::7]:53 for client (pid 4711, uid 1000) in /a.slice/b, "#
                + #"held by ser"v\er (pid 815, uid 0) in /c: another socket is connected with this tuple"#
        )
        let unknown = ConflictEventReport(
            makeEvent(reason: .outside, isHolderKnown: false, isClaimantKnown: false),
            cgroups: cgroups)
        #expect(
            unknown.line
                == "refused 192.0.2.1:40000 -> 198.51.100.7:53 for unknown: "
                + Reason.outside.explanation)
    }

    @Test("Nothing in a cgroup's name that a terminal would obey is in the line")
    func controlCharacters() throws {
        // Whoever has a cgroup delegated to him names those below it.
        let json = Self.complete.replacing("/a.slice/b", with: #"/a.slice/\u001b[2J\n"#)
        let report = try #require(ConflictEventReport(json: json))
        #expect(report.line.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
    }

    @Test("A reason of a later version is shown as it came")
    func unknownReason() throws {
        let json = Self.complete.replacing(#""reason":"held""#, with: #""reason":"eclipse""#)
        #expect(try #require(ConflictEventReport(json: json)).line.hasSuffix(": eclipse"))
    }

    @Test("The holder of a tuple whose process is gone still has a user")
    func processWithoutID() throws {
        let json = Self.complete.replacing("815", with: "0")
        let holder = try #require(ConflictEventReport(json: json)?.holder)
        #expect(holder.description == "a process that is not known (uid 0) in /c")
    }
}

struct CgroupNamesTests {
    @Test("No cgroup, and one that is not there, have no name")
    func missing() {
        let names = CgroupNames()
        #expect(names.path(of: 0) == nil)
        for _ in 0..<2 { #expect(names.path(of: missingCgroup) == nil) }
    }

    @Test("More names than are remembered at one time")
    func many() {
        let names = CgroupNames()
        for offset in 0..<3000 { #expect(names.path(of: missingCgroup - UInt64(offset)) == nil) }
    }
}
