// SPDX-License-Identifier: Apache-2.0
// Those who follow the events: on the agent's side, and on the client's.

import Dispatch
import Glibc
import Synchronization
import Testing
import TupleguardAgentClient
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent

/// Lines as they came.
private final class Received: Sendable {
    private let kept = Mutex<[String]>([])

    var lines: [String] { kept.withLock { $0 } }

    func add(_ line: String) { kept.withLock { $0.append(line) } }
}

struct FollowersTests {
    @Test("Each gets every line, in order, from when it came to when it left")
    func lines() throws {
        let followers = Followers()
        let early = Received()
        let late = Received()
        followers.send("nobody hears this")
        let first = try #require(followers.add { early.add($0) })
        followers.send("1")
        let second = try #require(followers.add { late.add($0) })
        #expect(first != second)
        followers.send("2")
        followers.remove(first)
        followers.send("3")
        followers.remove(second)
        followers.send("4")
        #expect(early.lines == ["1", "2"])
        #expect(late.lines == ["2", "3"])
    }

    @Test("There is room for so many, and for another when one has left")
    func limit() throws {
        let followers = Followers()
        let received = Received()
        let ids = (0..<Followers.limit).compactMap { _ in followers.add { received.add($0) } }
        #expect(ids.count == Followers.limit)
        #expect(Set(ids).count == Followers.limit)
        #expect(followers.add { received.add($0) } == nil)
        followers.send("x")
        #expect(received.lines.count == Followers.limit)

        followers.remove(ids[3])
        let next = try #require(followers.add { received.add($0) })
        #expect(!ids.contains(next))
        #expect(followers.add { received.add($0) } == nil)
    }

    @Test("Removing twice, or what never was, makes no room")
    func removedTwice() throws {
        let followers = Followers()
        let ids = (0..<Followers.limit).compactMap { _ in followers.add { _ in } }
        followers.remove(ids[0])
        followers.remove(ids[0])
        followers.remove(.max)
        #expect(followers.add { _ in } != nil)
        #expect(followers.add { _ in } == nil)
    }

    @Test("One may leave while it is given a line")
    func leavingInside() throws {
        let followers = Followers()
        let received = Received()
        let id = Mutex<UInt64?>(nil)
        let added = followers.add { line in
            received.add(line)
            if let id = id.withLock({ $0 }) { followers.remove(id) }
        }
        id.withLock { $0 = added }
        followers.send("1")
        followers.send("2")
        #expect(received.lines == ["1"])
    }
}

struct EventStreamTests {
    /// What came of following an agent.
    private struct Outcome {
        var request = ""
        var lines: [String] = []
        var error: AgentError?
    }

    /// Follows an agent that answers with `pieces`, one write each, and hangs up.
    private func follow(_ pieces: [String]) throws -> Outcome {
        try withTemporaryFolder { folder in
            let run = RunFolder(path: folder)
            let listener = try makeUnixSocket(SOCK_STREAM, boundTo: run.socket)
            let raw = listener.raw
            try Errno.check { listen(raw, 1) }
            let request = Received()
            let answered = DispatchGroup()
            DispatchQueue(label: "agent").async(group: answered) {
                request.add((try? Self.answer(on: raw, pieces)) ?? "no request came")
            }
            var outcome = Outcome()
            do throws(AgentError) {
                var stream = try EventStream.open(run)
                while let line = stream.nextLine() { outcome.lines.append(line) }
            } catch {
                outcome.error = error
            }
            answered.wait()
            outcome.request = request.lines.joined()
            return outcome
        }
    }

    /// Takes one request and answers it; returns the request.
    private static func answer(on listener: Int32, _ pieces: [String]) throws -> String {
        let connection = try OwnedDescriptor { accept(listener, nil, nil) }
        let raw = connection.raw
        var request = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !request.hasSuffix("\r\n\r\n") {
            let count = try Errno.check { read(raw, &buffer, buffer.count) }
            if count == 0 { break }
            request += String(decoding: buffer[..<count], as: UTF8.self)
        }
        for piece in pieces {
            let bytes = Array(piece.utf8)
            try Errno.check { Glibc.send(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
        }
        shutdown(raw, Int32(SHUT_RDWR))
        return request
    }

    private static let head = "HTTP/1.0 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"

    @Test("Lines are what follows the head of the answer")
    func lines() throws {
        let outcome = try follow([Self.head + "{\"a\":1}\n{\"b\":2}\n"])
        #expect(outcome.request == "GET /events HTTP/1.0\r\n\r\n")
        #expect(outcome.lines == [#"{"a":1}"#, #"{"b":2}"#])
        #expect(outcome.error == nil)
    }

    @Test("However the answer is cut into pieces")
    func pieces() throws {
        let text = Self.head + "{\"ü\":\"\u{1F427}\"}\n\nlast\n"
        let outcome = try follow(text.unicodeScalars.map { String($0) })
        #expect(outcome.lines == ["{\"ü\":\"\u{1F427}\"}", "", "last"])
    }

    @Test("A line longer than any buffer")
    func longLine() throws {
        let line = String(repeating: "x", count: 100_000)
        #expect(try follow([Self.head, line, line, "\n"]).lines == [line + line])
    }

    @Test("A line that is cut off is none")
    func cutOff() throws {
        #expect(try follow([Self.head, "whole\nhal"]).lines == ["whole"])
        #expect(try follow([Self.head]).lines == [])
    }

    @Test("An agent that has no room for another says so")
    func refused() throws {
        let outcome = try follow([
            "HTTP/1.0 503 Service Unavailable\r\n\r\ntoo many follow already\n"
        ])
        #expect(outcome.lines == [])
        let error = try #require(outcome.error)
        #expect("\(error)".contains("too many follow already"))
    }

    @Test(
        "An agent that says nothing, or something else",
        arguments: [[], [""], ["\n"], ["SSH-2.0-x\r\n"]])
    func noAnswer(pieces: [String]) throws {
        let outcome = try follow(pieces)
        #expect(outcome.lines == [])
        #expect(outcome.error != nil)
    }

    @Test("Where no agent runs the message says where one was looked for, and how to start one")
    func noAgent() throws {
        try withTemporaryFolder { folder in
            let error = #expect(throws: AgentError.self) {
                _ = try EventStream.open(RunFolder(path: folder))
            }
            let text = error.map { "\($0)" } ?? ""
            #expect(text.contains("\(folder)/agent.sock"))
            #expect(text.contains("ENOENT"))
            #expect(text.contains("tupleguard run --cgroup"))
        }
    }

    @Test("A path that no socket can have")
    func overlong() {
        let folder = "/" + String(repeating: "x", count: 108)
        let error = #expect(throws: AgentError.self) {
            _ = try EventStream.open(RunFolder(path: folder))
        }
        #expect(error.map { "\($0)".contains("ENAMETOOLONG") } == true)
    }
}
