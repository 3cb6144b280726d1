// SPDX-License-Identifier: Apache-2.0
// Who is said to receive, against who does: with sockets that received before, on every processor.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

/// A way in which sockets come to share a tuple, and datagrams to them.
struct Meeting: Sendable, CustomTestStringConvertible {
    let device: Bool
    /// Bound to no address, so that connect() gives them one.
    var isWildcard = false
    /// "b0 c1 w0": socket 0 binds, socket 1 connects, socket 0 receives on the first processor.
    let steps: String

    var testDescription: String {
        "\(device ? "veth" : "lo") \(isWildcard ? "wildcard" : "address") \(steps)"
    }
}

extension IntegrationTests {
    @Suite struct Receivers {
        private struct Ends {
            let sandbox: Sandbox
            let meeting: Meeting
            let sender: TestSocket

            /// d0 here and d1 there, the ends of one virtual cable; or loopback.
            init(_ meeting: Meeting, _ sandbox: Sandbox, _ other: Sandbox) throws {
                self.sandbox = sandbox
                self.meeting = meeting
                if meeting.device {
                    try sandbox.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
                    let there = "/proc/\(getpid())/fd/\(other.networkNamespace.raw)"
                    try sandbox.ip("link", "set", "d1", "netns", there)
                    for (end, device, address) in [
                        (sandbox, "d0", "10.7.0.1/24"), (other, "d1", "10.7.0.2/24"),
                    ] {
                        try end.ip("address", "add", address, "dev", device)
                        try end.ip("link", "set", device, "up")
                    }
                    sender = try other.socket(bound: "10.7.0.2:6000")
                } else {
                    sender = try sandbox.socket(bound: "127.0.0.1:6000")
                }
            }

            var local: String { meeting.device ? "10.7.0.1" : "127.0.0.1" }
            var remote: String { meeting.device ? "10.7.0.2:6000" : "127.0.0.1:6000" }

            /// Sends while on a processor, which then handles the datagram as well.
            func send(on processor: Int32) throws {
                let (sender, name) = (sender, Endpoint("\(local):5000")!)
                try Thread.run {
                    try Processors.stay(on: processor)
                    try sender.send("hello", to: name)
                }
            }

            /// The sockets, after all that the meeting has them do.
            func meet() throws -> [TestSocket] {
                let first = try #require(Processors.allowed.first)
                var sockets: [TestSocket] = []
                for step in meeting.steps.split(separator: " ") {
                    let number = try #require(step.last?.wholeNumberValue)
                    switch step.first {
                    case "b":
                        let address = meeting.isWildcard ? "0.0.0.0" : local
                        sockets.append(try sandbox.socket(bound: "\(address):5000"))
                    case "c": #expect(sockets[number].connect(remote) == nil)
                    default:
                        try send(on: first)
                        #expect(sockets[number].receive() != nil)
                    }
                }
                return sockets
            }
        }

        private static let meetings: [Meeting] = [false, true].flatMap { device in
            [false, true].flatMap { wildcard in
                [
                    "b0 c0 b1 c1", "b0 b1 c1 c0", "b0 c0 w0 b1 c1", "b0 c0 w0 b1 c1 b2",
                    "b0 c0 w0 b1 c1 w1 b2 c2",
                ].compactMap { steps in
                    // Who receives in the last one's middle depends on the kernel.
                    steps.contains("w1") && !device
                        ? nil : Meeting(device: device, isWildcard: wildcard, steps: steps)
                }
            }
        }

        private func sharers(_ sandbox: Sandbox, _ more: String...) throws -> (
            status: Int32, report: JSONObject
        ) {
            let outcome = try sandbox.command(
                Sandbox.program("tupleguard"),
                ["shadows", "--namespace", "self", "--json"] + more)
            let list = try outcome.json["shadows"] ?? outcome.json["resolved"]
            return (outcome.status, try #require((list as? [JSONObject])?.first))
        }

        private func cookies(_ sockets: Any?) -> [String] {
            ((sockets as? [JSONObject]) ?? []).compactMap { $0["cookie"] as? String }
        }

        /// Those whom the datagrams reached, one on each processor.
        private func truth(_ ends: Ends, _ sockets: [TestSocket]) throws -> Set<String> {
            var receivers: Set<String> = []
            for processor in Processors.allowed {
                try ends.send(on: processor)
                let reached = eventually {
                    for socket in sockets where socket.receive(waiting: 0) != nil {
                        receivers.insert("\(socket.cookie)")
                        return true
                    }
                    return false
                }
                #expect(reached)
            }
            return receivers
        }

        /// Who is called the receiver is the only one; who is said to be overshadowed gets nothing;
        /// and what --resolve destroys without asking received everything.
        @Test(arguments: Self.meetings)
        func whatIsSaidIsSo(_ meeting: Meeting) throws {
            try Sandbox.runTwo { sandbox, other in
                let ends = try Ends(meeting, sandbox, other)
                let sockets = try ends.meet()
                let (_, report) = try sharers(sandbox)
                let actual = try truth(ends, sockets)
                #expect(actual.isDisjoint(with: cookies(report["overshadowed"])))
                if let receiver = (report["receiver"] as? JSONObject)?["cookie"] as? String {
                    #expect(actual == [receiver])
                } else {
                    #expect(actual.isSubset(of: cookies(report["contenders"])))
                }
                try resolves(sandbox, ends, sockets)
            }
        }

        private func resolves(_ sandbox: Sandbox, _ ends: Ends, _ sockets: [TestSocket]) throws {
            let connected = sockets.count { $0.remote != nil }
            let (_, before) = try sharers(sandbox)
            let (status, outcome) = try sharers(sandbox, "--resolve", "--yes")
            let left = sockets.count { $0.remote != nil }
            guard let receiver = (before["receiver"] as? JSONObject)?["cookie"] as? String else {
                #expect(outcome["undecided"] != nil)
                #expect(status == 2)
                #expect(left == connected)
                return
            }
            let destroyed = (outcome["destroyed"] as? JSONObject)?["cookie"] as? String
            #expect(destroyed == receiver)
            #expect(left == connected - 1)
            #expect(try !truth(ends, sockets).contains(receiver))
        }

        /// Not everything is called uncertain: what each kernel decides by itself is told.
        @Test func itIsCertainWhereItIs() throws {
            let isNew = try #require(KernelVersion.running) >= KernelVersion(6, 13)
            let warmed = "b0 c0 w0 b1 c1"
            for (meeting, doubt) in [
                (Meeting(device: false, steps: "b0 c0 b1 c1"), nil),
                (Meeting(device: true, steps: "b0 b1 c1 c0"), isNew ? "arrival" : nil),
                (Meeting(device: false, steps: warmed), isNew ? nil : "processor"),
            ] as [(Meeting, String?)] {
                try Sandbox.runTwo { sandbox, other in
                    guard Processors.allowed.count > 1 else { return }
                    _ = try Ends(meeting, sandbox, other).meet()
                    let (_, report) = try sharers(sandbox)
                    #expect(report["depends_on"] as? String == doubt, "\(meeting.testDescription)")
                }
            }
        }
    }
}
