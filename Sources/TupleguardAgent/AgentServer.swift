// SPDX-License-Identifier: Apache-2.0
// HTTP on the agent's socket: who it is, what it has counted and found, and events as they come.

import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceLifecycle
import Synchronization
import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords

/// Serves GET /health, GET /summary, GET /reports, GET /cgroups and GET /events on a Unix socket
/// that only root can open.
final class AgentServer: Service, Sendable {
    private let path: String
    private let followers: Followers
    private let notices: Notices
    /// Nil where a guard watches instead.
    private let scans: Scans?
    private let cgroups: CgroupNames
    private let pods: PodRefusals
    private let health: @Sendable () -> AgentHealth
    private let places: Places
    private let listening: @Sendable () -> Void

    /// - Parameters:
    ///   - descriptors: how many this process may have; connections get a quarter.
    ///   - listening: called when whoever asks is answered.
    init(
        path: String, followers: Followers, notices: Notices, scans: Scans? = nil,
        pods: PodRefusals = PodRefusals(), cgroups: CgroupNames = CgroupNames(),
        descriptors: Int = 1024,
        health: @escaping @Sendable () -> AgentHealth,
        listening: @escaping @Sendable () -> Void = {}
    ) {
        self.health = health
        self.listening = listening
        places = Places(min(64, max(4, descriptors / 4)))
        self.path = path
        self.cgroups = cgroups
        self.pods = pods
        self.followers = followers
        self.notices = notices
        self.scans = scans
    }

    func run() async throws {
        // We hold the agents' lock, so a socket that is left here is nobody's.
        unlink(path)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        do {
            let channel = try await bind(on: group)
            chmod(path, 0o600)
            listening()
            try? await gracefulShutdown()
            try? await channel.close()
            unlink(path)
            try await group.shutdownGracefully()
        } catch {
            try? await group.shutdownGracefully()
            throw AgentError.failed(
                what: "listen on \(path)", errno: .init((error as? IOError)?.errnoCode ?? EIO),
                detail: "\(error)")
        }
    }

    private func bind(on group: MultiThreadedEventLoopGroup) async throws -> any Channel {
        let (followers, notices, scans, cgroups) = (followers, notices, scans, cgroups)
        let (health, places, pods) = (health, places, pods)
        return try await ServerBootstrap(listeningOn: group, backlog: 16)
            .childChannelInitializer { channel in
                guard places.take() else { return channel.close() }
                channel.closeFuture.whenComplete { _ in places.giveBack() }
                return Self.addHandlers(
                    to: channel, followers: followers, notices: notices, scans: scans,
                    pods: pods, cgroups: cgroups, health: health)
            }
            .bind(unixDomainSocketPath: path).get()
    }

    /// What answers on one connection.
    static func addHandlers(
        to channel: any Channel, followers: Followers, notices: Notices, scans: Scans?,
        pods: PodRefusals, cgroups: CgroupNames, health: @escaping @Sendable () -> AgentHealth
    ) -> EventLoopFuture<Void> {
        channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
            try channel.pipeline.syncOperations.addHandler(
                RequestHandler(
                    followers: followers, notices: notices, scans: scans, pods: pods,
                    cgroups: cgroups, health: health))
        }
    }
}

/// Places for connections: whoever holds them open gets no more than there are.
final class Places: Sendable {
    private let limit: Int
    private let taken = Atomic<Int>(0)

    init(_ limit: Int) {
        self.limit = limit
    }

    func take() -> Bool {
        if taken.add(1, ordering: .relaxed).newValue <= limit { return true }
        giveBack()
        return false
    }

    func giveBack() { taken.subtract(1, ordering: .relaxed) }
}

/// Answers one request, and closes.
private final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let followers: Followers
    private let notices: Notices
    private let scans: Scans?
    private let cgroups: CgroupNames
    private let pods: PodRefusals
    private let health: @Sendable () -> AgentHealth
    private var following: UInt64?
    /// Each answer ends the connection. What came right behind the request may be handed on when it
    /// has ended, and would be followed for ever.
    private var hasAsked = false
    private var asksTooLate: Scheduled<Void>?

    /// In which a client has asked that connected.
    private static let patience = TimeAmount.seconds(5)

    init(
        followers: Followers, notices: Notices, scans: Scans?, pods: PodRefusals,
        cgroups: CgroupNames, health: @escaping @Sendable () -> AgentHealth
    ) {
        self.health = health
        self.cgroups = cgroups
        self.pods = pods
        self.followers = followers
        self.notices = notices
        self.scans = scans
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        asksTooLate = context.eventLoop.scheduleTask(in: Self.patience) {
            channel.close(promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let request) = unwrapInboundIn(data), !hasAsked else { return }
        hasAsked = true
        asksTooLate?.cancel()
        switch (request.method, request.uri) {
        case (.GET, "/health"):
            answer(context, request, health())
        case (.GET, "/reports"):
            answer(
                context, request,
                AgentFindings(
                    totals: notices.totals, conflicts: notices.conflicts(cgroups),
                    scan: scans?.findings))
        case (.GET, "/summary"):
            answer(
                context, request,
                AgentSummary(totals: notices.totals, scan: scans?.totals, pods: pods.all))
        case (.GET, "/cgroups"):
            answer(context, request, RememberedCgroups(cgroups.paths))
        case (.GET, "/events"):
            follow(context, request)
        default:
            context.channel.answer(
                request.version, .notFound,
                "there is GET /health, GET /summary, GET /reports, GET /cgroups and GET /events\n")
        }
    }

    private func answer(
        _ context: ChannelHandlerContext, _ request: HTTPRequestHead, _ found: some Encodable
    ) {
        context.channel.answer(
            request.version, .ok, encodeJSON(found) + "\n", type: "application/json")
    }

    func channelInactive(context: ChannelHandlerContext) {
        asksTooLate?.cancel()
        if let following { followers.remove(following) }
        following = nil
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    /// A line of JSON for each event, until the client leaves.
    ///
    /// A client that does not read loses events rather than have us keep them.
    private func follow(_ context: ChannelHandlerContext, _ request: HTTPRequestHead) {
        let channel = context.channel
        following = followers.add { line in
            guard channel.isWritable else { return }
            let buffer = channel.allocator.buffer(string: line + "\n")
            channel.writeAndFlush(HTTPServerResponsePart.body(.byteBuffer(buffer)), promise: nil)
        }
        guard following != nil else {
            channel.answer(request.version, .serviceUnavailable, "too many follow already\n")
            return
        }
        let head = HTTPResponseHead(
            version: request.version, status: .ok, headers: ["content-type": "application/x-ndjson"]
        )
        context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
    }
}
