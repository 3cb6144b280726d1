// SPDX-License-Identifier: Apache-2.0
// NIO's channels, connected by the library.

import ConnectxNIO
import Foundation
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite struct ConnectxNIOTests {
    // MARK: - Addresses

    @Test(arguments: ["127.0.0.1:53", "[2001:db8::1]:65535", "[fe80::1%lo]:1", "0.0.0.0:0"])
    func addressesBothWays(_ text: String) throws {
        let endpoint = try #require(Connectx.Endpoint(text))
        let address = SocketAddress(endpoint)
        #expect(address.port == Int(endpoint.port))
        #expect(address.protocol == (endpoint.address.isIPv4 ? .inet : .inet6))
        #expect(Connectx.Endpoint(address) == endpoint)
    }

    @Test func whatIsNoEndpoint() throws {
        #expect(Connectx.Endpoint(try SocketAddress(unixDomainSocketPath: "/tmp/x")) == nil)
    }

    // MARK: - UDP

    /// Takes down what comes in.
    private final class Inbox: ChannelInboundHandler, Sendable {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let datagrams: Mutex<[ByteBuffer]> = Mutex([])

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let datagram = unwrapInboundIn(data).data
            datagrams.withLock { $0.append(datagram) }
        }

        var all: [ByteBuffer] { datagrams.withLock { $0 } }
    }

    /// A client of 1,000 connections at one time, on 300 ports: one server has four addresses. Each
    /// gets its own answer, and nobody else's.
    @Test func aThousandConnectionsOnThreeHundredPorts() async throws {
        let server = try NameServer(addresses: 4)
        defer { server.stop() }
        let range: ClosedRange<UInt16> = 41_000...41_299
        let bootstrap = DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        var channels: [any Channel] = []
        var inboxes: [Inbox] = []
        for number in 0..<1000 {
            let inbox = Inbox()
            inboxes.append(inbox)
            let address = Connectx.IPAddress(v4: 127, 0, 0, UInt8(number % 4 + 1))
            channels.append(
                try await bootstrap.channelInitializer { $0.pipeline.addHandler(inbox) }
                    .connectx(to: Connectx.Endpoint(address, server.port)) { socket in
                        // IP_LOCAL_PORT_RANGE: the highest port in the upper half.
                        let bounds = UInt32(range.upperBound) << 16 | UInt32(range.lowerBound)
                        socket.set(IPPROTO_IP, 51, to: Int32(bitPattern: bounds))
                    })
        }
        let tuples = Set(channels.map { "\($0.localAddress!) \($0.remoteAddress!)" })
        #expect(tuples.count == 1000)
        let ports = Set(channels.compactMap { $0.localAddress?.port })
        #expect(ports.allSatisfy { range.contains(UInt16($0)) })

        for (number, channel) in channels.enumerated() {
            // As plain data: the channel knows that it is connected.
            try await channel.writeAndFlush(
                DNS.question(id: UInt16(number), number: number + 1_000_000))
        }
        for _ in 0..<6000 where !inboxes.allSatisfy({ $0.all.count >= 1 }) {
            try await Task.sleep(for: .milliseconds(10))
        }
        for (number, inbox) in inboxes.enumerated() {
            let answers = inbox.all.compactMap { DNS.read($0) }
            #expect(answers.count == 1 && answers.first?.id == UInt16(number))
            #expect(answers.first?.address == UInt32(number + 1_000_000))
        }
        for channel in channels { try await channel.close() }
    }

    @Test func aQuestionAndItsAnswer() async throws {
        let server = try NameServer(addresses: 1)
        defer { server.stop() }
        let to = Connectx.Endpoint(Connectx.IPAddress(v4: 127, 0, 0, 1), server.port)
        let answer = try await ask(to, DNS.question(id: 7, number: 1234))
        #expect(DNS.read(try #require(answer))?.address == 1234)
    }

    /// A source that is taken is an error, and leaves no channel.
    @Test func aSourceThatIsTaken() async throws {
        let to = try #require(Connectx.Endpoint("127.0.0.1:9"))
        let bootstrap = DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        let first = try await bootstrap.connectx(to: to)
        let taken = try #require(first.localAddress)
        let source = Connectx.Source(try #require(Connectx.Endpoint(taken)))
        let closed = Mutex(0)
        let error = await #expect(throws: ConnectError.self) {
            _ = try await bootstrap.connectx(to: to, from: source) { channel in
                channel.closeFuture.whenComplete { _ in closed.withLock { $0 += 1 } }
                return channel.eventLoop.makeSucceededVoidFuture()
            }
        }
        #expect(error?.reason == .conflict)
        for _ in 0..<6000 where closed.withLock({ $0 }) == 0 {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(closed.withLock { $0 } == 1)
        try await first.close()
    }

    // MARK: - TCP

    /// Sends back what it gets.
    private final class Echo: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            context.writeAndFlush(data, promise: nil)
        }
    }

    private func echoServer() async throws -> any Channel {
        try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { $0.pipeline.addHandler(Echo()) }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    @Test func tcpChannels() async throws {
        let server = try await echoServer()
        let address = try #require(server.localAddress)
        let to = try #require(Connectx.Endpoint(address))
        let bootstrap = ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        for number in 0..<20 {
            let channel = try await bootstrap.connectx(to: to) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(
                        wrappingChannelSynchronously: channel)
                }
            }
            let answer = try await channel.executeThenClose { inbound, outbound in
                try await outbound.write(ByteBuffer(string: "message \(number)"))
                var answer = ByteBuffer()
                for try await piece in inbound {
                    answer.writeImmutableBuffer(piece)
                    if answer.readableBytes == "message \(number)".utf8.count { break }
                }
                return String(buffer: answer)
            }
            #expect(answer == "message \(number)")
        }
        let dialled = try await dial(to, from: Connectx.IPAddress(v4: 127, 0, 0, 2))
        #expect(dialled.localAddress?.ipAddress == "127.0.0.2")
        try await dialled.close()
        try await server.close()
    }

    @Test func nobodyListens() async throws {
        let server = try await echoServer()
        let address = try #require(server.localAddress)
        let to = try #require(Connectx.Endpoint(address))
        try await server.close()
        let error = await #expect(throws: ConnectError.self) {
            _ = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connectx(to: to)
        }
        #expect(error?.errno == ECONNREFUSED)
    }
}
