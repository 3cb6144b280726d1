// SPDX-License-Identifier: Apache-2.0
// HTTP with a running agent, as far as its clients need it.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// A connection to the agent that runs, for one question.
struct AgentConnection: ~Copyable {
    private let socket: OwnedDescriptor
    private var pending: [UInt8] = []

    /// Seconds in which an agent that works has gone on with its answer.
    private static let patience = 3

    /// - Throws: `AgentError` with ENOENT or ECONNREFUSED when no agent is running.
    init(to folder: RunFolder) throws(AgentError) {
        socket = try Self.connected(to: folder)
    }

    private static func connected(to folder: RunFolder) throws(AgentError) -> OwnedDescriptor {
        guard let name = UnixSocketName(folder.socket) else {
            throw .failed(what: "reach \(folder.socket)", errno: Errno(ENAMETOOLONG), detail: "")
        }
        let raw = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw .failed(what: "make a socket", errno: .last, detail: "") }
        let socket = OwnedDescriptor(taking: raw)
        guard name.withSocketAddress({ connect(raw, $0, $1) }) == 0 else {
            throw .failed(
                what: "reach the agent at \(folder.socket)", errno: .last,
                detail: "events come from a running agent: `tupleguard run --cgroup CGROUP`")
        }
        return socket
    }

    /// The whole of what the agent has at `path`.
    static func get(_ path: String, from folder: RunFolder) throws(AgentError) -> String {
        var connection = try AgentConnection(to: folder)
        connection.limitWaiting()
        let status = try connection.ask(path)
        guard status.contains(" 200 ") else {
            throw .failed(
                what: "read \(path) of the agent", errno: Errno(EPROTO),
                detail: "it answered \(printable(status))")
        }
        var text = ""
        while let line = connection.nextLine() { text += line }
        return text
    }

    /// An agent that is stopped (SIGSTOP, a debugger) is not waited for.
    private func limitWaiting() {
        var limit = timeval(tv_sec: Self.patience, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
    }

    /// Asks, and returns the status line of the answer; its body follows line by line.
    mutating func ask(_ path: String) throws(AgentError) -> String {
        // HTTP/1.0: the answer ends with the connection and has no chunks.
        let request = "GET \(path) HTTP/1.0\r\n\r\n"
        let raw = socket.raw
        guard
            request.withCString({
                send(raw, $0, strlen($0), Int32(MSG_NOSIGNAL))
            }) == request.utf8.count
        else {
            throw .failed(what: "ask the agent for \(path)", errno: .last, detail: "")
        }
        guard let status = nextLine() else { return "nothing" }
        while let header = nextLine(), !header.isEmpty {}
        return status
    }

    /// The next line, without its end; nil when the agent has gone.
    mutating func nextLine() -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = pending[..<end]
                pending.removeFirst(end + 1)
                return String(
                    decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line,
                    as: UTF8.self)
            }
            guard let count = try? Errno.check({ read(socket.raw, &buffer, buffer.count) }),
                count > 0
            else { return nil }
            pending += buffer[..<count]
        }
    }
}
