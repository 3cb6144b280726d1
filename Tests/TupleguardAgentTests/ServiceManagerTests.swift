// SPDX-License-Identifier: Apache-2.0
// What systemd hears, on a datagram socket like its own.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardAgent

struct ServiceManagerTests {
    private func receive(_ socket: borrowing OwnedDescriptor) throws -> String {
        let raw = socket.raw
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try Errno.check { recv(raw, &buffer, buffer.count, 0) }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }

    private func isEmpty(_ socket: borrowing OwnedDescriptor) -> Bool {
        var byte: UInt8 = 0
        return recv(socket.raw, &byte, 1, Int32(MSG_DONTWAIT)) < 0 && errno == EAGAIN
    }

    private func checkMessages(at path: String) throws {
        let socket = try makeUnixSocket(SOCK_DGRAM, boundTo: path)
        let manager = ServiceManager(path: path)
        manager.ready("guarding 2 of 2 cgroups")
        manager.stopping()
        let ready = try receive(socket)
        #expect(ready == "READY=1\nSTATUS=guarding 2 of 2 cgroups\nMAINPID=\(getpid())")
        let stopping = try receive(socket)
        #expect(stopping == "STOPPING=1")
        let nothingMore = isEmpty(socket)
        #expect(nothingMore)
    }

    @Test("A socket in a folder")
    func path() throws {
        try withTemporaryFolder { try checkMessages(at: "\($0)/notify") }
    }

    @Test("An abstract socket")
    func abstract() throws {
        try checkMessages(at: "@tupleguard-test-\(getpid())-\(UInt64.random(in: 0...(.max)))")
    }

    @Test("The longest name that a socket can have")
    func longest() throws {
        try withTemporaryFolder { folder in
            try checkMessages(
                at: folder + "/" + String(repeating: "n", count: 106 - folder.utf8.count))
        }
    }

    @Test("It waits for signs of life where it listens, and asks for them")
    func watchdog() {
        let second = Duration.seconds(1)
        #expect(ServiceManager(path: "/run/notify", watchdog: second).watchdog == second)
        #expect(ServiceManager(path: "/run/notify", watchdog: nil).watchdog == nil)
        #expect(ServiceManager(path: nil, watchdog: second).watchdog == nil)
    }

    @Test("Where nobody listens nothing happens")
    func nobody() throws {
        try withTemporaryFolder { folder in
            for path in [
                nil, "", "/", "@", "relative", "vsock:2:1234", "\(folder)/missing", folder,
                "/" + String(repeating: "n", count: 107), "@" + String(repeating: "n", count: 5000),
            ] {
                let manager = ServiceManager(path: path)
                manager.ready("x")
                manager.stopping()
            }
            #expect(names(in: folder) == [])
        }
    }

    @Test("A relative name is not looked for in the current folder")
    func relative() async {
        await #expect(processExitsWith: .success) {
            try withTemporaryFolder { folder in
                try #require(chdir(folder) == 0)
                let socket = try makeUnixSocket(SOCK_DGRAM, boundTo: "notify")
                ServiceManager(path: "notify").stopping()
                var byte: UInt8 = 0
                let count = recv(socket.raw, &byte, 1, Int32(MSG_DONTWAIT))
                #expect(count < 0)
            }
        }
    }

    @Test("The socket's name comes from NOTIFY_SOCKET")
    func environment() async {
        await #expect(processExitsWith: .success) {
            try withTemporaryFolder { folder in
                let path = "\(folder)/notify"
                let socket = try makeUnixSocket(SOCK_DGRAM, boundTo: path)
                setenv("NOTIFY_SOCKET", path, 1)
                ServiceManager().stopping()
                var buffer = [UInt8](repeating: 0, count: 64)
                let count = recv(socket.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
                #expect(String(decoding: buffer[..<max(0, count)], as: UTF8.self) == "STOPPING=1")
            }
        }
    }
}
