// SPDX-License-Identifier: Apache-2.0
// Copies standard input to a socket, and what comes from it to standard output, both at once.

import Glibc
import TupleguardSockets

/// One connection between the terminal and a socket.
///
/// Neither direction waits for the other: a server that answers more than it reads must be read
/// from while it is written to, or both sides wait for ever. Each direction ends by itself: the end
/// of the input closes the socket for writing only, the end of the connection's data leaves the
/// input to be sent.
struct Relay {
    let socket: Int32
    /// TCP; else each piece of the input is a datagram.
    let isStream: Bool
    /// How long nothing may happen in either direction before it ends, in milliseconds; -1: for
    /// ever.
    var idleMilliseconds: Int32 = -1

    /// How long answers are awaited when the input of a datagram socket has ended, in milliseconds.
    private static let silence: Int32 = 1000
    /// Of the input at a time, which with UDP is a datagram.
    private static let pieceSize = 16_384
    private static let bufferSize = 65_536
    /// What a pipe that is ready for writing takes without blocking (PIPE_BUF, pipe(7)): standard
    /// output is not ours to make non-blocking, for others share it.
    private static let safeWrite = 4096

    /// Bytes on their way in one direction.
    private struct Flow {
        var pending: ArraySlice<UInt8> = []
        /// The source has no more.
        var hasEnded = false
        /// The end was passed on.
        var isClosed = false

        var wantsMore: Bool { pending.isEmpty && !hasEnded }
    }

    /// What happened while waiting.
    private struct Ready {
        var canReceive = false
        var canSend = false
        var canRead = false
        var canWrite = false
        /// Nothing did, for as long as was allowed.
        var isIdle = false
    }

    /// Until both directions have ended, or nothing happened for too long.
    ///
    /// - Parameter first: what goes out before the input.
    func run(first: [UInt8]) throws(Errno) {
        var out = Flow(pending: first[...])
        var back = Flow()
        var buffer = [UInt8](repeating: 0, count: Self.bufferSize)
        while !(out.isClosed && back.isClosed) {
            let ready = try wait(out, back)
            if ready.isIdle { return }
            if ready.canReceive { try receive(into: &back, &buffer) }
            if ready.canWrite { try write(&back) }
            if ready.canRead { try readInput(into: &out, &buffer) }
            if ready.canSend { try send(&out) }
            passOnEnds(&out, &back)
        }
    }

    private func wait(_ out: Flow, _ back: Flow) throws(Errno) -> Ready {
        var events: Int32 = 0
        if back.wantsMore { events |= POLLIN }
        if !out.pending.isEmpty { events |= POLLOUT }
        var polled = [
            pollfd(fd: events == 0 ? -1 : socket, events: Int16(events), revents: 0),
            pollfd(fd: out.wantsMore ? STDIN_FILENO : -1, events: Int16(POLLIN), revents: 0),
            pollfd(
                fd: back.pending.isEmpty ? -1 : STDOUT_FILENO, events: Int16(POLLOUT), revents: 0),
        ]
        let isAwaitingAnswers = !isStream && out.isClosed && back.pending.isEmpty
        let patience = isAwaitingAnswers ? Self.silence : idleMilliseconds
        guard try Errno.check({ poll(&polled, 3, patience) }) > 0 else {
            return Ready(isIdle: true)
        }
        // Whatever is amiss (POLLERR, POLLHUP, POLLNVAL) the call itself tells.
        let socketEvents = Int32(polled[0].revents)
        return Ready(
            canReceive: back.wantsMore && socketEvents & ~POLLOUT != 0,
            canSend: !out.pending.isEmpty && socketEvents & ~POLLIN != 0,
            canRead: polled[1].revents != 0, canWrite: polled[2].revents != 0)
    }

    /// The end of the input closes the socket for writing, once all of it is sent.
    private func passOnEnds(_ out: inout Flow, _ back: inout Flow) {
        if out.hasEnded && out.pending.isEmpty && !out.isClosed {
            if isStream { shutdown(socket, Int32(SHUT_WR)) }
            out.isClosed = true
        }
        if back.hasEnded && back.pending.isEmpty { back.isClosed = true }
    }

    private func receive(into flow: inout Flow, _ buffer: inout [UInt8]) throws(Errno) {
        let socket = socket
        guard
            let count = try unlessAgain({
                recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            })
        else { return }
        // An empty datagram is no end.
        if count == 0 && isStream { flow.hasEnded = true }
        flow.pending = buffer[..<count]
    }

    private func readInput(into flow: inout Flow, _ buffer: inout [UInt8]) throws(Errno) {
        guard
            let count = try unlessAgain({ read(STDIN_FILENO, &buffer, Self.pieceSize) })
        else { return }
        if count == 0 { flow.hasEnded = true }
        flow.pending = buffer[..<count]
    }

    private func send(_ flow: inout Flow) throws(Errno) {
        let socket = socket
        let pending = flow.pending
        let count: Int?
        do throws(Errno) {
            count = try unlessAgain {
                pending.withUnsafeBytes {
                    Glibc.send(
                        socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
                }
            }
        } catch {
            // The other side takes no more, and may have answers under way: only this way is over.
            guard isStream, error.number == EPIPE || error.number == ECONNRESET else { throw error }
            flow = Flow(hasEnded: true, isClosed: true)
            return
        }
        if let count { flow.pending = flow.pending.dropFirst(count) }
    }

    private func write(_ flow: inout Flow) throws(Errno) {
        let piece = flow.pending.prefix(Self.safeWrite)
        let count = try unlessAgain {
            piece.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        }
        if let count { flow.pending = flow.pending.dropFirst(count) }
    }

    /// What a call returns; nil where it would have had to wait.
    private func unlessAgain(_ call: () -> Int) throws(Errno) -> Int? {
        do throws(Errno) {
            return try Errno.check(call)
        } catch {
            if error.number == EAGAIN { return nil }
            throw error
        }
    }
}
