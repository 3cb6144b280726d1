// SPDX-License-Identifier: Apache-2.0
// What clients send to the agent's socket, and to where it serves metrics.

import NIOCore
import NIOEmbedded
import TupleguardAgentClient
import TupleguardLinux
import TupleguardMetrics

@testable import TupleguardAgent

/// Both servers answer in HTTP or not at all, whatever they are sent, in one piece or in two.
@Sendable func acceptsHTTP(_ input: UnsafeRawBufferPointer) throws -> Bool {
    let followers = Followers()
    let ofAgent = try answers(to: input, of: followers) { channel in
        AgentServer.addHandlers(
            to: channel, followers: followers, notices: Notices(), scans: Scans(),
            pods: PodRefusals(), cgroups: CgroupNames(nil)
        ) { AgentHealth(pid: 1, doing: "nothing", secondsSinceLastRound: nil, logLinesLost: 0) }
    }
    try require(followers.isEmpty, "a follower is kept whose connection has ended")
    let ofMetrics = try answers(to: input, of: nil) { channel in
        MetricsServer.addHandlers(to: channel, families: families) {}
    }
    return ofAgent || ofMetrics
}

@Sendable private func families(_ loop: any EventLoop) -> EventLoopFuture<[MetricFamily]> {
    var family = MetricFamily("fuzz", .gauge, "One sample.")
    family.add([], 1)
    return loop.makeSucceededFuture([family])
}

/// Whether a server says 200; an event comes before the client goes.
private func answers(
    to input: UnsafeRawBufferPointer, of followers: Followers?,
    _ addHandlers: (any Channel) -> EventLoopFuture<Void>
) throws -> Bool {
    let channel = EmbeddedChannel()
    try addHandlers(channel).wait()
    try channel.connect(to: SocketAddress(unixDomainSocketPath: "/nowhere")).wait()
    // Where the first byte says, so that every place comes up.
    let place = min(Int(input.first ?? 0), input.count)
    for part in [input[..<place], input[place...]] where channel.isActive {
        // What is not HTTP ends the connection, which is an error for whoever writes then.
        _ = try? channel.writeInbound(channel.allocator.buffer(bytes: part))
    }
    followers?.send("{}")
    _ = try? channel.finish(acceptAlreadyClosed: true)
    var answer: [UInt8] = []
    // (SwiftNIO's word on a mistake, where the connection has ended and the encoder is gone, comes
    // as it is here; a socket refuses it.)
    while let part = try? channel.readOutbound(as: ByteBuffer.self) {
        answer += part.readableBytesView
    }
    try require(
        answer.isEmpty || answer.starts(with: "HTTP/".utf8), "an answer that is not HTTP")
    return answer.dropFirst("HTTP/1.1".utf8.count).starts(with: " 200 ".utf8)
}
