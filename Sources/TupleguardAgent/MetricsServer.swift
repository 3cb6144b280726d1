// SPDX-License-Identifier: Apache-2.0
// GET /metrics for Prometheus, on addresses that it is told: read-only, bounded, patient with
// nobody.

import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceLifecycle
import Synchronization
import TupleguardAgentClient
import TupleguardLinux
import TupleguardMetrics
import TupleguardSockets

/// Serves the metrics and nothing else.
///
/// A client that neither asks nor reads is cut off after ten seconds, one that asks for anything
/// else right away, and 32 are served at a time. All are told of the same look at the host, which
/// is taken when one asks and the last is three seconds old.
final class MetricsServer: Service, Sendable {
    static let connectionLimit = 32
    static let patience = TimeAmount.seconds(10)

    private let group: MultiThreadedEventLoopGroup
    private let channels: [any Channel]
    private let addresses: [MetricsAddress]
    private let looks: MetricsLooks

    /// Listens at once, so that an address that can't be had is an error of the start.
    init(
        _ addresses: [MetricsAddress], looks: MetricsLooks
    ) async throws(AgentError) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let clients = MetricsClients(limit: Self.connectionLimit)
        var channels: [any Channel] = []
        for address in addresses {
            do {
                let bootstrap = Self.bootstrap(group, looks, clients)
                channels.append(try await Self.bind(bootstrap, to: address))
            } catch {
                for channel in channels { try? await channel.close() }
                try? await group.shutdownGracefully()
                throw .failed(
                    what: "serve metrics at \(address)",
                    errno: Errno((error as? IOError)?.errnoCode ?? EIO),
                    detail: "is another program there? choose another --metrics address")
            }
        }
        (self.group, self.channels, self.addresses, self.looks) =
            (group, channels, addresses, looks)
    }

    /// Where the metrics are, as one writes it into a browser; with the port that was got where 0
    /// was asked for.
    var places: [String] {
        zip(addresses, channels).map { address, channel in
            switch address {
            case .unix(let path): "unix:\(path)"
            case .tcp(let endpoint):
                "http://\(Endpoint(endpoint.address, UInt16(channel.localAddress?.port ?? 0)))/metrics"
            }
        }
    }

    func run() async throws {
        try? await gracefulShutdown()
        for (address, channel) in zip(addresses, channels) {
            try? await channel.close()
            if case .unix(let path) = address { unlink(path) }
        }
        try await group.shutdownGracefully()
        try await looks.stop()
    }

    private static func bind(
        _ bootstrap: ServerBootstrap, to address: MetricsAddress
    ) async throws -> any Channel {
        switch address {
        case .tcp(let endpoint):
            return try await bootstrap.bind(
                host: endpoint.address.description, port: Int(endpoint.port)
            ).get()
        case .unix(let path):
            // One that a killed agent left behind; anything else stays, and binding fails.
            removeUnansweredSocket(path)
            let channel = try await bootstrap.bind(unixDomainSocketPath: path).get()
            // As on 127.0.0.1, everybody on the host may scrape.
            chmod(path, 0o666)
            return channel
        }
    }

    private static func bootstrap(
        _ group: MultiThreadedEventLoopGroup, _ looks: MetricsLooks, _ clients: MetricsClients
    ) -> ServerBootstrap {
        ServerBootstrap(listeningOn: group, backlog: 64)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                guard let client = clients.add(channel) else {
                    return channel.eventLoop.makeFailedFuture(ChannelError.alreadyClosed)
                }
                let deadline = channel.eventLoop.scheduleTask(in: patience) {
                    channel.close(promise: nil)
                }
                channel.closeFuture.whenComplete { _ in
                    deadline.cancel()
                    clients.remove(client)
                }
                return addHandlers(to: channel, families: looks.families) {
                    clients.hasAsked(client)
                }
            }
    }

    /// What answers on one connection.
    ///
    /// - Parameter didAsk: called when the request is there.
    static func addHandlers(
        to channel: any Channel,
        families: @escaping @Sendable (any EventLoop) -> EventLoopFuture<[MetricFamily]>,
        didAsk: @escaping @Sendable () -> Void
    ) -> EventLoopFuture<Void> {
        channel.pipeline.configureHTTPServerPipeline(withPipeliningAssistance: false)
            .flatMapThrowing {
                try channel.pipeline.syncOperations.addHandler(
                    MetricsHandler(families: families, didAsk: didAsk))
            }
    }
}

/// Removes a Unix socket that nobody listens on.
private func removeUnansweredSocket(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK,
        let name = UnixSocketName(path),
        let probe = try? OwnedDescriptor({
            socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        })
    else { return }
    if name.withSocketAddress({ connect(probe.raw, $0, $1) }) != 0, errno == ECONNREFUSED {
        unlink(path)
    }
}

/// Those who are connected. Where there are too many, whoever has waited longest without asking
/// makes way, so that connections that are merely held keep nobody from scraping.
private final class MetricsClients: Sendable {
    private struct State {
        var next: UInt64 = 0
        var count = 0
        /// By the order in which they came.
        var silent: [(id: UInt64, channel: any Channel)] = []
    }

    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) { self.limit = limit }

    /// A number for it; nil when there are too many, and all of them have asked.
    func add(_ channel: any Channel) -> UInt64? {
        let (id, evicted) = state.withLock { state -> (UInt64?, (any Channel)?) in
            var evicted: (any Channel)?
            if state.count >= limit {
                guard !state.silent.isEmpty else { return (nil, nil) }
                evicted = state.silent.removeFirst().channel
            }
            state.next += 1
            state.count += 1
            state.silent.append((state.next, channel))
            return (state.next, evicted)
        }
        evicted?.close(promise: nil)
        return id
    }

    func hasAsked(_ id: UInt64) {
        state.withLock { state in state.silent.removeAll { $0.id == id } }
    }

    func remove(_ id: UInt64) {
        state.withLock { state in
            state.count -= 1
            state.silent.removeAll { $0.id == id }
        }
    }
}

/// Answers one request, and closes.
private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let families: (any EventLoop) -> EventLoopFuture<[MetricFamily]>
    private let didAsk: () -> Void
    private var hasAsked = false

    init(
        families: @escaping (any EventLoop) -> EventLoopFuture<[MetricFamily]>,
        didAsk: @escaping () -> Void
    ) {
        self.families = families
        self.didAsk = didAsk
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let request) = unwrapInboundIn(data), !hasAsked else { return }
        hasAsked = true
        didAsk()
        let path = request.uri.prefix { $0 != "?" }
        guard request.method == .GET, path == "/metrics" else {
            let status: HTTPResponseStatus = path == "/metrics" ? .methodNotAllowed : .notFound
            context.channel.answer(request.version, status, "there is GET /metrics\n")
            return
        }
        let format = ExpositionFormat(accepting: request.headers["accept"].joined(separator: ","))
        let channel = context.channel
        let version = request.version
        families(context.eventLoop).whenComplete { result in
            switch result {
            case .success(let families):
                channel.answer(
                    version, .ok, format.render(families), type: format.contentType)
            case .failure(let error):
                channel.answer(version, .internalServerError, "\(error)\n")
            }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
