// SPDX-License-Identifier: Apache-2.0
// The client's side of the agent's event stream.

import Glibc
import Guard
import Net

/// The events of a running agent, a line of JSON each.
public struct EventStream: ~Copyable {
    private let socket: OwnedDescriptor
    private var pending: [UInt8] = []

    private init(_ socket: consuming OwnedDescriptor) {
        self.socket = socket
    }

    /// Asks the agent for its events. Throws when none is running.
    public static func open(_ folder: RunFolder) throws(GuardError) -> EventStream {
        var stream = EventStream(try connected(to: folder))
        // HTTP/1.0: the answer ends with the connection and has no chunks.
        let request = "GET /events HTTP/1.0\r\n\r\n"
        let raw = stream.socket.raw
        guard
            request.withCString({
                send(raw, $0, strlen($0), Int32(MSG_NOSIGNAL))
            }) == request.utf8.count
        else {
            throw .failed(what: "ask the agent for events", errno: .last, detail: "")
        }
        let status = stream.nextLine() ?? "nothing"
        guard status.contains(" 200 ") else {
            throw .failed(
                what: "follow the agent's events", errno: Errno(EBUSY),
                detail: "it answered \(printable(status)); 503 means that too many follow already")
        }
        while let header = stream.nextLine(), !header.isEmpty {}
        return stream
    }

    private static func connected(to folder: RunFolder) throws(GuardError) -> OwnedDescriptor {
        let raw = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw .failed(what: "make a socket", errno: .last, detail: "") }
        let socket = OwnedDescriptor(taking: raw)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(folder.socket.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else {
            throw .failed(what: "reach \(folder.socket)", errno: Errno(ENAMETOOLONG), detail: "")
        }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let result = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            throw .failed(
                what: "reach the agent at \(folder.socket)", errno: .last,
                detail: "events come from a running agent: `tupleguard run --cgroup CGROUP`")
        }
        return socket
    }

    /// The next line, without its end; nil when the agent has gone.
    public mutating func nextLine() -> String? {
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
