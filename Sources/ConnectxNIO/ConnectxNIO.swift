// SPDX-License-Identifier: Apache-2.0
// Connectx for SwiftNIO: bootstraps whose channels share source ports safely.

#if NIO
    @_exported public import Connectx
    internal import ConnectxCore
    public import NIOCore
    public import NIOPosix
    internal import TupleguardSockets

    // MARK: - Addresses

    extension Connectx.Endpoint {
        /// From an Internet address; nil for a Unix domain socket's.
        public init?(_ address: SocketAddress) {
            let name = address.withSockAddr { name, size in
                try? SocketName(UnsafeRawBufferPointer(start: name, count: size))
            }
            guard let name else { return nil }
            self = name.scopedEndpoint
        }
    }

    extension SocketAddress {
        /// From an endpoint, with its scope.
        public init(_ endpoint: Connectx.Endpoint) {
            let isIPv4 = endpoint.address.isIPv4
            self = endpoint.withSocketAddress(
                family: isIPv4 ? AF_INET : AF_INET6, scope: endpoint.scope
            ) { name, _ in
                let name = UnsafeRawPointer(name)
                return isIPv4
                    ? SocketAddress(name.loadUnaligned(as: sockaddr_in.self))
                    : SocketAddress(name.loadUnaligned(as: sockaddr_in6.self))
            }
        }
    }

    // MARK: - UDP

    extension DatagramBootstrap {
        /// Connects a channel by `Connectx.open(adopting:to:from:options:)`: source address and
        /// port are chosen, or shared, so that no other socket comes to hold the same 4-tuple.
        ///
        /// The channel is NIO's own, with the options and the initializer of the bootstrap. Since
        /// its socket does not block, a port that is named and that others are at fails as
        /// `contended`.
        ///
        /// `configure` sets options of the socket before it is connected.
        ///
        /// - Throws: `ConnectError`, or what the initializer threw.
        public func connectx(
            to destination: Connectx.Endpoint, from source: Connectx.Source = .any,
            options: Connectx.Options = Connectx.Options(),
            configure: Connectx.Configuration? = nil
        ) async throws -> any Channel {
            try await connectx(
                to: destination, from: source, options: options, configure: configure,
                channelInitializer: { $0.eventLoop.makeSucceededFuture($0) })
        }

        /// The same with one more initializer, whose result is returned: a `NIOAsyncChannel`, for
        /// example.
        public func connectx<Output: Sendable>(
            to destination: Connectx.Endpoint, from source: Connectx.Source = .any,
            options: Connectx.Options = Connectx.Options(),
            configure: Connectx.Configuration? = nil,
            channelInitializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Output>
        ) async throws -> Output {
            try await connect(to: SocketAddress(destination)) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = ConnectxHandler(
                        destination: destination, source: source, options: options,
                        configure: configure)
                    try channel.pipeline.syncOperations.addHandler(handler, position: .first)
                }.flatMap {
                    channelInitializer(channel)
                }
            }
        }
    }

    /// Connects the channel's socket when the channel is about to. (The channel's own connect(2),
    /// to the same place, then changes nothing, and tells the channel that it is connected.)
    private final class ConnectxHandler: ChannelOutboundHandler, RemovableChannelHandler {
        typealias OutboundIn = Never

        private let destination: Connectx.Endpoint
        private let source: Connectx.Source
        private let options: Connectx.Options
        private let configure: Connectx.Configuration?

        init(
            destination: Connectx.Endpoint, source: Connectx.Source, options: Connectx.Options,
            configure: Connectx.Configuration?
        ) {
            self.destination = destination
            self.source = source
            self.options = options
            self.configure = configure
        }

        func connect(
            context: ChannelHandlerContext, to address: SocketAddress,
            promise: EventLoopPromise<Void>?
        ) {
            do {
                let pipeline = context.pipeline.syncOperations
                let isDone: Void? = try pipeline.withUnsafeTransportIfAvailable(
                    of: NIOBSDSocket.Handle.self
                ) { socket in
                    try Connectx.configure(socket, for: destination, configure)
                    let connection = try Connectx.open(
                        adopting: socket, to: destination, from: source, options: options)
                    // It stays the channel's.
                    _ = connection.takeDescriptor()
                }
                guard isDone != nil else { throw ChannelError.operationUnsupported }
                context.connect(to: address, promise: promise)
                pipeline.removeHandler(context: context, promise: nil)
            } catch {
                promise?.fail(error)
            }
        }
    }

    // MARK: - TCP

    extension ClientBootstrap {
        /// Connects a channel by `Connectx.connect(_:to:from:options:configure:)`, and hands it
        /// over connected.
        ///
        /// `bind(to:)` and `connectTimeout(_:)` of the bootstrap do not count: say `source` and
        /// `options.timeout`. (Do not give `withConnectedSocket` a socket of `Connectx.open`: that
        /// one may be under way still, `inProgress`, and NIO would take it to be connected.)
        ///
        /// - Throws: `ConnectError`, or what the initializer threw.
        public func connectx(
            to destination: Connectx.Endpoint, from source: Connectx.Source = .any,
            options: Connectx.Options = Connectx.Options(),
            configure: Connectx.Configuration? = nil
        ) async throws -> any Channel {
            let connection = try await Connectx.connect(
                .tcp, to: destination, from: source, options: options, configure: configure)
            return try await withConnectedSocket(connection.takeDescriptor()).get()
        }

        /// The same with one more initializer, whose result is returned: a `NIOAsyncChannel`, for
        /// example.
        public func connectx<Output: Sendable>(
            to destination: Connectx.Endpoint, from source: Connectx.Source = .any,
            options: Connectx.Options = Connectx.Options(),
            configure: Connectx.Configuration? = nil,
            channelInitializer: @escaping @Sendable (any Channel) -> EventLoopFuture<Output>
        ) async throws -> Output {
            let connection = try await Connectx.connect(
                .tcp, to: destination, from: source, options: options, configure: configure)
            return try await withConnectedSocket(
                connection.takeDescriptor(), channelInitializer: channelInitializer)
        }
    }
#else
    #error(
        "ConnectxNIO needs the trait NIO: .package(url: …, from: …, traits: [\"NIO\"])")
#endif
