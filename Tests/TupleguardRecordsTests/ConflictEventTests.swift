// SPDX-License-Identifier: Apache-2.0
// Conflicts as JSON and as lines: what the guard did, what connectx gave notice of, what a scan
// saw.

import ConnectxCore
import Testing
import TupleguardSockets

@testable import TupleguardRecords

private let noon = Timestamp("2026-01-31T12:00:00.012Z")!

private func endpoint(_ text: String) -> Endpoint { Endpoint(text)! }

private let tuple = FourTuple(
    local: endpoint("192.0.2.1:40000"), remote: endpoint("198.51.100.7:53"))

private func followed(_ json: String) -> (any ConflictEvent)? {
    let line: FollowedEvent? = decodeJSON(json)
    return line?.event
}

/// Whether a terminal would show a line and nothing else.
private func isHarmless(_ line: String) -> Bool {
    line.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) }
}

struct GuardEventTests {
    private static let client = ProcessIdentity(
        pid: 4711, uid: 1000, command: "client", cgroup: "/a.slice/b", cgroupId: 12)
    private static let server = ProcessIdentity(
        pid: 815, uid: 0, command: #"ser"v\er"#, cgroup: "/c", cgroupId: 13)

    private func makeEvent(
        _ reason: Reason = .held, _ action: GuardEvent.Action = .refused,
        claimant: ProcessIdentity? = client, holder: ProcessIdentity? = server
    ) -> GuardEvent {
        GuardEvent(
            time: noon, action: action, reason: reason,
            tuple: FourTuple(local: tuple.local, remote: endpoint("[2001:db8::7]:53")),
            networkNamespace: 3, guardedCgroupId: 11, claimant: claimant, holder: holder)
    }

    /// With every field that there is.
    private static let complete =
        #"{"action":"refused","#
        + #""claimant":{"cgroup":"/a.slice/b","cgroup_id":12,"command":"client","pid":4711,"uid":1000},"#
        + #""guarded_cgroup":"/a.slice","guarded_cgroup_id":11,"#
        + #""holder":{"cgroup":"/c","cgroup_id":13,"command":"ser\"v\\er","pid":815,"uid":0},"#
        + #""local":"192.0.2.1:40000","network_namespace":3,"reason":"held","#
        + #""remote":"[2001:db8::7]:53","source":"guard","time":"2026-01-31T12:00:00.012Z","#
        + #""transport":"udp"}"#

    @Test("The fields are stable")
    func fields() {
        let named = makeEvent().namingCgroups { $0 == 11 ? "/a.slice" : nil }
        #expect(encodeJSON(named) == Self.complete)
    }

    @Test("Processes and cgroups that are not known are left out")
    func unknown() {
        #expect(
            encodeJSON(makeEvent(.outside, claimant: nil, holder: nil))
                == #"{"action":"refused","guarded_cgroup_id":11,"local":"192.0.2.1:40000","#
                + #""network_namespace":3,"reason":"outside","remote":"[2001:db8::7]:53","#
                + #""source":"guard","time":"2026-01-31T12:00:00.012Z","transport":"udp"}"#)
    }

    @Test("What was encoded decodes to the same again")
    func roundTrip() throws {
        let event = try #require(followed(Self.complete) as? GuardEvent)
        #expect(encodeJSON(event) == Self.complete)
        #expect(event.guardedCgroup == "/a.slice")
        #expect(event.claimant == Self.client)
        #expect(event.holder == Self.server)
        for reason in Reason.allCases {
            let json = encodeJSON(makeEvent(reason))
            #expect((followed(json) as? GuardEvent)?.reason == reason)
        }
    }

    @Test("TCP is named; earlier agents knew of UDP alone, and did not say so")
    func transports() throws {
        let tcp = Self.complete.replacing(#""udp""#, with: #""tcp""#)
        let event = try #require(followed(tcp) as? GuardEvent)
        #expect(event.transport == .tcp)
        #expect(event.subject.hasSuffix("(tcp)"))
        #expect(encodeJSON(event) == tcp)
        let earlier = Self.complete.replacing(#","transport":"udp""#, with: "")
        #expect((followed(earlier) as? GuardEvent)?.transport == .udp)
    }

    @Test("What no single socket is in the way of is about the destination")
    func destinations() {
        for reason in [Reason.exhausted, .budget] {
            let event = makeEvent(reason)
            #expect(event.subject == "[2001:db8::7]:53")
            #expect(!event.line.contains("held by"))
        }
    }

    @Test("A local address that is not known is a star, there and back")
    func unknownAddress() throws {
        let json = Self.complete.replacing("192.0.2.1:", with: "*:")
        let event = try #require(followed(json) as? GuardEvent)
        #expect(event.tuple.local.port == 40_000)
        #expect(encodeJSON(event) == json)
    }

    @Test(
        "Of earlier agents, by the name that they gave it or by none",
        arguments: [
            #""source":"kernel","#, "",
        ])
    func earlierSource(source: String) {
        let json = Self.complete.replacing(#""source":"guard","#, with: source)
        #expect(followed(json) is GuardEvent)
    }

    @Test("A field that a later version adds does not matter")
    func moreFields() throws {
        let json = #"{"zz_new":{"a":[1]},"# + Self.complete.dropFirst()
        #expect((followed(json) as? GuardEvent)?.claimant?.pid == 4711)
    }

    @Test("Anything else is no event")
    func garbage() {
        let complete = Self.complete
        for count in 0..<complete.count {
            #expect(followed(String(complete.prefix(count))) == nil, "\(count)")
        }
        for json in [
            "[]", "null", "{}", "\0", "refused", complete + complete, "[\(complete)]",
            complete.replacing("4711", with: "4294967296"),
            complete.replacing("4711", with: #""4711""#), complete.replacing("4711", with: "1.5"),
            complete.replacing(#""time""#, with: #""tome""#),
            complete.replacing("held", with: "eclipse"),
            complete.replacing("refused", with: "refuted"),
            complete.replacing("192.0.2.1:40000", with: "192.0.2.1"),
            complete.replacing(#""udp""#, with: #""sctp""#),
            complete.replacing(#""guard""#, with: #""oracle""#),
        ] {
            #expect(followed(json) == nil, "\(json)")
        }
    }

    @Test("One line for people: what, to whom, who has it, why")
    func line() {
        #expect(
            makeEvent().line
                == #"refused 192.0.2.1:40000 -> [2001:db8::7]:53 for client (pid 4711, uid 1000) in /a.slice/b, "#
                + #"held by ser"v\er (pid 815, uid 0) in /c: another socket is connected with this tuple"#
        )
        #expect(
            makeEvent(.outside, .observed, claimant: nil, holder: nil).line
                == "observed 192.0.2.1:40000 -> [2001:db8::7]:53 for unknown: "
                + Reason.outside.explanation)
    }

    @Test("Where no port is left the line is about the destination")
    func exhausted() {
        #expect(
            makeEvent(.exhausted).line
                == "refused [2001:db8::7]:53 for client (pid 4711, uid 1000) in /a.slice/b: "
                + Reason.exhausted.explanation)
    }

    @Test("The fields of a tuple's conflicts are stable")
    func conflict() throws {
        let first = try #require(Timestamp("2026-01-31T11:00:00.000Z"))
        let conflict = Conflict(count: 17, first: first, last: makeEvent())
        let json = encodeJSON(conflict)
        #expect(
            json
                == #"{"count":17,"first_time":"2026-01-31T11:00:00.000Z","last":\#(encodeJSON(makeEvent())),"#
                + #""last_time":"2026-01-31T12:00:00.012Z","source":"guard"}"#)
        let again: Conflict<GuardEvent>? = decodeJSON(json)
        #expect(again.map { encodeJSON($0) } == json)
    }
}

struct ConnectxEventTests {
    private func makeEvent(
        _ kind: Notice.Kind = .lostRace, count: UInt32 = 3, command: String? = "client"
    ) -> ConnectxEvent {
        ConnectxEvent(
            time: noon,
            notice: Notice(kind: kind, transport: .udp, tuple: tuple, count: count),
            sender: ProcessIdentity(
                pid: 4711, uid: 1000, command: command, cgroup: "/a.slice", cgroupId: 12))
    }

    private static let complete =
        #"{"count":3,"local":"192.0.2.1:40000","reason":"lost-race","remote":"198.51.100.7:53","#
        + #""sender":{"cgroup":"/a.slice","cgroup_id":12,"command":"client","pid":4711,"uid":1000},"#
        + #""source":"connectx","time":"2026-01-31T12:00:00.012Z","transport":"udp"}"#

    @Test("The fields are stable, and decode to the same again")
    func fields() {
        #expect(encodeJSON(makeEvent()) == Self.complete)
        #expect(followed(Self.complete).map { encodeJSON($0 as! ConnectxEvent) } == Self.complete)
        for kind in Notice.Kind.allCases {
            let event = followed(encodeJSON(makeEvent(kind))) as? ConnectxEvent
            #expect(event?.notice.kind == kind)
        }
    }

    @Test("Of an earlier agent, by the name that it gave it")
    func earlierSource() {
        #expect(
            followed(Self.complete.replacing("connectx", with: "userspace")) is ConnectxEvent)
    }

    @Test("A process that has gone has no name")
    func gone() {
        let event = makeEvent(command: nil)
        #expect(!encodeJSON(event).contains(#""command""#))
        #expect(event.line.contains("by a process that has gone (pid 4711, uid 1000)"))
    }

    @Test("A line is of the source that it says, and of no other")
    func pretender() {
        #expect(followed(Self.complete.replacing("connectx", with: "guard")) == nil)
        #expect(followed(Self.complete.replacing("connectx", with: "scan")) == nil)
    }

    @Test("Anything else is no event")
    func garbage() {
        for count in 0..<Self.complete.count {
            #expect(followed(String(Self.complete.prefix(count))) == nil)
        }
        #expect(followed(Self.complete.replacing("udp", with: "sctp")) == nil)
        #expect(followed(Self.complete.replacing("lost-race", with: "lost")) == nil)
    }

    @Test("One line for people, marked as what it is")
    func line() {
        #expect(
            makeEvent().line
                == "connectx: 192.0.2.1:40000 -> 198.51.100.7:53 (udp), reported 3 times by "
                + "client (pid 4711, uid 1000) in /a.slice: "
                + "another socket took the tuple while the program was about to")
        #expect(
            makeEvent(.exhausted, count: 1).line
                == "connectx: no port left for 198.51.100.7:53 (udp), reported by "
                + "client (pid 4711, uid 1000) in /a.slice: "
                + "no local port is free for this destination")
    }

    @Test("Nothing that a terminal would obey is in the line", arguments: ["client", "/a.slice"])
    func controlCharacters(field: String) throws {
        let json = Self.complete.replacing(field, with: #"\u001b[2J\n\u009b"#)
        #expect(isHarmless(try #require(followed(json)).line))
    }
}

struct ScanEventTests {
    private let found = ScanEvent(
        time: noon, tuple: tuple, networkNamespaceName: "blue",
        sides: ShadowSides(
            receiver: SharedSocket(
                cookie: .max, uid: 1000, cgroup: "/a",
                processes: [
                    ProcessIdentity(pid: 1, uid: 1000, command: "a"),
                    ProcessIdentity(pid: 2, uid: 1000, command: "b"),
                ]),
            overshadowed: [SharedSocket(cookie: 7, uid: 33, cgroup: nil, processes: [])]))

    private static let complete =
        #"{"action":"found","first_time":"2026-01-31T12:00:00.012Z","local":"192.0.2.1:40000","#
        + #""network_namespace_name":"blue","overshadowed":[{"cookie":"7","processes":[],"uid":33}],"#
        + #""receiver":{"cgroup":"/a","command":"a","cookie":"18446744073709551615","pid":1,"processes":"#
        + #"[{"command":"a","pid":1,"uid":1000},{"command":"b","pid":2,"uid":1000}],"uid":1000},"#
        + #""remote":"198.51.100.7:53","source":"scan","time":"2026-01-31T12:00:00.012Z"}"#

    @Test("The fields are stable, and decode to the same again")
    func fields() throws {
        #expect(encodeJSON(found) == Self.complete)
        let again = try #require(followed(Self.complete) as? ScanEvent)
        #expect(encodeJSON(again) == Self.complete)
        #expect(again.cookies == ["7", "18446744073709551615"])
    }

    @Test("The end tells when it began")
    func ended() throws {
        let later = try #require(Timestamp("2026-01-31T13:00:00.000Z"))
        let end = found.ended(at: later)
        #expect(end.action == .ended)
        #expect(end.time == later)
        #expect(end.firstTime == noon)
        #expect(
            end.line
                == "scan: 192.0.2.1:40000 -> 198.51.100.7:53 in blue is overshadowed no more; it was since 2026-01-31T12:00:00.012Z"
        )
    }

    @Test("One line for people: who receives, and who does not")
    func line() {
        #expect(
            found.line
                == "scan: found 192.0.2.1:40000 -> 198.51.100.7:53 in blue: "
                + "a (pid 1, uid 1000) and 1 more in /a receives, "
                + "overshadowed: a process that is not known (uid 33)")
    }

    @Test("Where it is not certain who receives, nobody is called the receiver")
    func contenders() throws {
        var (one, other) = (
            SharedSocket(cookie: 5, uid: 33, cgroup: nil, processes: []),
            SharedSocket(cookie: 6, uid: 34, cgroup: nil, processes: [])
        )
        one.foundOn = [0, 2]
        other.foundOn = []
        let sides = ShadowSides(contenders: [one, other], dependsOn: .processor, overshadowed: [])
        let event = ScanEvent(
            time: noon, tuple: tuple, networkNamespaceName: "blue", sides: sides)
        #expect(
            event.line.hasSuffix(
                "blue: a process that is not known (uid 33) or a process that is not known (uid 34) "
                    + "receives, which depends on the processor that handles the datagram"))
        let json = encodeJSON(event)
        #expect(!json.contains(#""receiver""#))
        #expect(json.contains(#""depends_on":"processor""#))
        #expect(json.contains(#""found_on":[0,2]"#))
        #expect((followed(json) as? ScanEvent)?.sides == sides)
    }

    @Test("Nothing that a terminal would obey is in the line")
    func controlCharacters() throws {
        let json = Self.complete.replacing("blue", with: #"\u001b[2J\n"#)
            .replacing("/a", with: #"/\u009b"#)
        #expect(isHarmless(try #require(followed(json)).line))
    }
}
