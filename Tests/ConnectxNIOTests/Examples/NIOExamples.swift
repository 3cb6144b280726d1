// SPDX-License-Identifier: Apache-2.0
// The Swift of the article about NIO.

import ConnectxNIO
import NIOCore
import NIOPosix

/// A datagram each way, over a UDP connection of its own.
func ask(_ server: Connectx.Endpoint, _ question: ByteBuffer) async throws -> ByteBuffer? {
    let channel = try await DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .connectx(to: server) { channel in
            channel.eventLoop.makeCompletedFuture {
                try NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, ByteBuffer>(
                    wrappingChannelSynchronously: channel)
            }
        }
    return try await channel.executeThenClose { answers, questions in
        try await questions.write(question)
        for try await answer in answers { return answer.data }
        return nil
    }
}

/// A TCP connection from an address of this host, by whichever bootstrap you have.
func dial(_ server: Connectx.Endpoint, from source: Connectx.IPAddress) async throws -> any Channel
{
    var options = Connectx.Options()
    options.timeout = .seconds(5)
    return try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .channelOption(.socketOption(.so_keepalive), value: 1)
        .connectx(to: server, from: Connectx.Source(address: source), options: options)
}
