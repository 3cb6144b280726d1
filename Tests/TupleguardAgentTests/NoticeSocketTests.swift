// SPDX-License-Identifier: Apache-2.0
// The socket that everybody may write to, and what is made of what comes.

import CTupleguardTestSupport
import ConnectxCore
import Glibc
import Testing
import TupleguardAgentClient
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent

struct NoticeSocketTests {
    private static let nobody: UInt32 = 65534

    private func withSocket(_ body: (borrowing NoticeSocket) throws -> Void) throws {
        try withTemporaryFolder { folder in
            chmod(folder, 0o755)
            let socket = try NoticeSocket(path: "\(folder)/report.sock")
            try body(socket)
        }
    }

    /// As this process; its whole datagram is sent or an error thrown.
    private func send(_ bytes: [UInt8], to path: String) throws {
        let name = try #require(UnixSocketName(path))
        let sender = try OwnedDescriptor {
            Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let raw = sender.raw
        try Errno.check {
            name.withSocketAddress {
                sendto(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT), $0, $1)
            }
        }
    }

    private func notice(_ received: NoticeSocket.Received) -> (Notice, Sender)? {
        guard case .notice(let notice, let sender) = received else { return nil }
        return (notice, sender)
    }

    private func isInvalid(_ received: NoticeSocket.Received) -> Bool {
        if case .invalid = received { true } else { false }
    }

    private func isNothing(_ received: NoticeSocket.Received) -> Bool {
        if case .nothing = received { true } else { false }
    }

    @Test("A notice comes as it was sent, and with who sent it")
    func report() throws {
        try withSocket { socket in
            #expect(isNothing(socket.receive()))
            let sent = makeNotice(.lostRace, count: 12)
            try send(datagram(sent), to: socket.path)
            let received = try #require(notice(socket.receive()))
            #expect(received.0 == sent)
            #expect(received.1 == Sender(pid: getpid(), uid: getuid()))
            #expect(isNothing(socket.receive()))
        }
    }

    @Test("Anybody may send; the kernel says who it was", .enabled(if: getuid() == 0))
    func anybody() throws {
        try withSocket { socket in
            let sent = datagram(makeNotice())
            let pid = support_send_as(Self.nobody, socket.path, sent, sent.count, 1, -1)
            try #require(pid > 0, "\(pid)")
            #expect(notice(socket.receive())?.1 == Sender(pid: pid, uid: Self.nobody))
        }
    }

    @Test("It can be written to by all, whatever the umask")
    func mode() async {
        await #expect(processExitsWith: .success) {
            umask(0o777)
            try withTemporaryFolder { folder in
                let socket = try NoticeSocket(path: "\(folder)/report.sock")
                var status = stat()
                try #require(stat(socket.path, &status) == 0)
                #expect(status.st_mode & 0o777 == 0o666)
                _ = socket
            }
        }
    }

    @Test("What is no report is taken out, and known as such")
    func malformed() throws {
        try withSocket { socket in
            let good = datagram(makeNotice())
            var wrongMagic = good
            wrongMagic[3] = 2
            var wrongKind = good
            wrongKind[4] = 4
            for bytes in [
                [], [0], Array(good.dropLast()), good + [0], good + good,
                [UInt8](repeating: 0x74, count: 100_000), wrongMagic, wrongKind,
            ] {
                try send(bytes, to: socket.path)
                #expect(isInvalid(socket.receive()), "\(bytes.count) bytes")
                #expect(isNothing(socket.receive()))
            }
            try send(good, to: socket.path)
            #expect(notice(socket.receive()) != nil)
        }
    }

    @Test("Descriptors that are sent along do not arrive", .enabled(if: getuid() == 0))
    func descriptors() throws {
        try withSocket { socket in
            var ends: [Int32] = [-1, -1]
            try Errno.check { pipe(&ends) }
            let reader = OwnedDescriptor(taking: ends[0])
            do {
                let writer = OwnedDescriptor(taking: ends[1])
                let sent = datagram(makeNotice())
                for uid in [0, Self.nobody] {
                    let pid = support_send_as(uid, socket.path, sent, sent.count, 1, writer.raw)
                    try #require(pid > 0, "\(pid)")
                    #expect(isInvalid(socket.receive()))
                }
            }
            // The end of the pipe: nobody holds its other side any more.
            var byte: UInt8 = 0
            var ready = pollfd(fd: reader.raw, events: Int16(POLLIN), revents: 0)
            try #require(poll(&ready, 1, 10_000) == 1)
            #expect(read(reader.raw, &byte, 1) == 0)
        }
    }

    @Test("Whatever the message says, it does not say who sent it")
    func largest() throws {
        try withSocket { socket in
            let largest = Notice(
                kind: .exhausted, transport: .udp,
                tuple: FourTuple(
                    local: Endpoint(
                        IPAddress(networkWords: (.max, .max, .max, .max)), .max),
                    remote: Endpoint(
                        IPAddress(networkWords: (.max, .max, .max, .max)), .max)),
                count: .max)
            try send(datagram(largest), to: socket.path)
            let received = try #require(notice(socket.receive()))
            #expect(received.1 == Sender(pid: getpid(), uid: getuid()))
        }
    }

    @Test("A socket that was left is replaced; one in no folder is an error that names it")
    func path() throws {
        try withTemporaryFolder { folder in
            let path = "\(folder)/report.sock"
            let first = try NoticeSocket(path: path)
            let second = try NoticeSocket(path: path)
            try send(datagram(makeNotice()), to: second.path)
            #expect(isNothing(first.receive()))
            #expect(notice(second.receive()) != nil)
            #expect(failure("\(folder)/no").hasPrefix("cannot listen on \(folder)/no/report.sock"))
            let long = folder + "/" + String(repeating: "n", count: 100)
            #expect(failure(long).contains("ENAMETOOLONG"))
        }
    }

    private func failure(_ folder: String) -> String {
        do {
            _ = try NoticeSocket(path: "\(folder)/report.sock")
            return "no error"
        } catch {
            return "\(error)"
        }
    }

    @Test("Waiting ends with a datagram, with the time, and with the end")
    func waiting() throws {
        try withSocket { socket in
            let path = socket.path
            let atFirst = socket.wait(milliseconds: 1)
            #expect(!atFirst)
            try send(datagram(makeNotice()), to: path)
            let withDatagram = socket.wait(milliseconds: -1)
            #expect(withDatagram)
            _ = socket.receive()
            socket.stop()
            let atTheEnd = socket.wait(milliseconds: -1)
            #expect(atTheEnd)
            #expect(isNothing(socket.receive()))
            #expect(throws: Errno(EPIPE)) { try send(datagram(makeNotice()), to: path) }
        }
    }
}
