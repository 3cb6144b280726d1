// SPDX-License-Identifier: Apache-2.0
// Copies standard input to a socket, and what comes from it to standard output.

import Glibc
import TupleguardSockets

/// One connection between the terminal and a socket.
struct Relay {
    let socket: Int32
    /// TCP; else each piece of the input is a datagram.
    let isStream: Bool

    /// How long answers are awaited when the input of a datagram socket has ended, in milliseconds.
    private static let silence: Int32 = 1000
    private static let pieceSize = 16_384

    /// Until the other side closes, or the input has ended and all is quiet.
    ///
    /// - Parameter first: what goes out before the input.
    func run(first: [UInt8]) throws(Errno) {
        try send(first[...])
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var isInputOpen = true
        while true {
            var ready = [
                pollfd(fd: socket, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isInputOpen ? STDIN_FILENO : -1, events: Int16(POLLIN), revents: 0),
            ]
            let wait = isInputOpen || isStream ? -1 : Self.silence
            let count = try Errno.check { poll(&ready, 2, wait) }
            if count == 0 { return }
            if ready[0].revents != 0, try !receive(&buffer) { return }
            if ready[1].revents != 0 { isInputOpen = try forward(&buffer) }
        }
    }

    /// Whether there may be more.
    private func receive(_ buffer: inout [UInt8]) throws(Errno) -> Bool {
        let socket = socket
        let count = try Errno.check { recv(socket, &buffer, buffer.count, 0) }
        if count == 0 && isStream { return false }
        try write(buffer[..<count])
        return true
    }

    /// Whether the input goes on.
    private func forward(_ buffer: inout [UInt8]) throws(Errno) -> Bool {
        let count = try Errno.check { read(STDIN_FILENO, &buffer, Self.pieceSize) }
        guard count > 0 else {
            if isStream { shutdown(socket, Int32(SHUT_WR)) }
            return false
        }
        try send(buffer[..<count])
        return true
    }

    private func send(_ bytes: ArraySlice<UInt8>) throws(Errno) {
        var rest = bytes
        let socket = socket
        while !rest.isEmpty {
            let count = try Errno.check {
                rest.withUnsafeBytes {
                    Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
            }
            rest = rest.dropFirst(count)
        }
    }

    private func write(_ bytes: ArraySlice<UInt8>) throws(Errno) {
        var rest = bytes
        while !rest.isEmpty {
            let count = try Errno.check {
                rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            }
            rest = rest.dropFirst(count)
        }
    }
}
