// SPDX-License-Identifier: Apache-2.0
// DNS, as much of it as a client needs to be seen to get its own answers (RFC 1035).

import Foundation
import Glibc
import NIOCore
import Testing

/// A server on 127.0.0.1, 127.0.0.2 and so on, that answers a question for "N.example" with the
/// number N as an address. It knows nothing of the library.
final class NameServer: Sendable {
    let port: UInt16
    private let sockets: [Int32]
    /// A pipe, whose closed end is the sign to stop.
    private let ending: (read: Int32, write: Int32)

    init(addresses: Int) throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        ending = (ends[0], ends[1])
        let first = try Self.bound(to: 1, port: 0)
        let port = Self.port(of: first)
        self.port = port
        sockets =
            [first] + (try (1..<addresses).map { try Self.bound(to: UInt32($0 + 1), port: port) })
        Thread.detachNewThread { [sockets, ending] in Self.serve(sockets, until: ending.read) }
    }

    func stop() { close(ending.write) }

    private static func bound(to host: UInt32, port: UInt16) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = (0x7f00_0000 | host).bigEndian
        name.sin_port = port.bigEndian
        var room: Int32 = 1 << 22
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &room, 4)
        let isBound = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        try #require(isBound)
        return descriptor
    }

    private static func port(of descriptor: Int32) -> UInt16 {
        var name = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor, $0, &length)
            }
        }
        return UInt16(bigEndian: name.sin_port)
    }

    private static func serve(_ sockets: [Int32], until ending: Int32) {
        var polled = (sockets + [ending]).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while poll(&polled, nfds_t(polled.count), -1) >= 0, polled.last!.revents == 0 {
            for ready in polled.dropLast() where ready.revents != 0 { answer(ready.fd) }
        }
        for descriptor in sockets + [ending] { close(descriptor) }
    }

    private static func answer(_ descriptor: Int32) {
        var question = [UInt8](repeating: 0, count: 512)
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                let count = recvfrom(descriptor, &question, question.count, 0, name, &length)
                guard count > 12, let answer = DNS.answer(to: Array(question[..<count])) else {
                    return
                }
                sendto(descriptor, answer, answer.count, 0, name, length)
            }
        }
    }
}

/// Messages with one question.
enum DNS {
    /// Asks for the address of "N.example".
    static func question(id: UInt16, number: Int) -> ByteBuffer {
        var message = ByteBuffer()
        // The identifier, recursion desired, one question and nothing else.
        message.writeMultipleIntegers(
            id, UInt16(0x0100), UInt16(1), UInt16(0), UInt16(0), UInt16(0))
        for label in ["\(number)", "example"] {
            message.writeInteger(UInt8(label.utf8.count))
            message.writeString(label)
        }
        // The root; type A; class IN.
        message.writeMultipleIntegers(UInt8(0), UInt16(1), UInt16(1))
        return message
    }

    static func answer(to question: [UInt8]) -> [UInt8]? {
        let length = Int(question[12])
        guard question.count > 13 + length,
            let number = UInt32(String(decoding: question[13..<13 + length], as: UTF8.self))
        else { return nil }
        var answer = ByteBuffer(bytes: question)
        answer.setInteger(UInt16(0x8180), at: 2)  // An answer, without an error.
        answer.setInteger(UInt16(1), at: 6)
        // The name of the question; type A; class IN; a minute; four bytes.
        answer.writeMultipleIntegers(UInt16(0xc00c), UInt16(1), UInt16(1), UInt32(60), UInt16(4))
        answer.writeInteger(number)
        return Array(answer.readableBytesView)
    }

    /// The identifier and the address of an answer.
    static func read(_ answer: ByteBuffer) -> (id: UInt16, address: UInt32)? {
        guard let id = answer.getInteger(at: 0, as: UInt16.self),
            answer.getInteger(at: 6, as: UInt16.self) == 1,
            let address = answer.getInteger(at: answer.writerIndex - 4, as: UInt32.self)
        else { return nil }
        return (id, address)
    }
}
