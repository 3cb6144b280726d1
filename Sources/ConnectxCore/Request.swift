// SPDX-License-Identifier: Apache-2.0
// What a caller asks for, and which technique was used to get it.

import CTupleguardLinux
public import TupleguardSockets

/// Where to connect to.
package struct Destination: Hashable, Sendable {
    /// Without a scope, as the kernel lists it.
    package var endpoint: Endpoint
    /// The index of the interface that a link-local IPv6 address belongs to (`sin6_scope_id`); else
    /// 0.
    package var scope: UInt32
    /// `sin6_flowinfo`, in network order: the flow label of a C caller's address.
    package var flowInfo: UInt32

    package init(_ endpoint: Endpoint, flowInfo: UInt32 = 0) {
        self.endpoint = Endpoint(endpoint.address, endpoint.port)
        scope = endpoint.scope
        self.flowInfo = flowInfo
    }
}

/// What becomes of a call whose port the caller has named, while others wait on that port or are
/// just connecting from it (UDP).
package enum Patience: Sendable {
    /// It goes on trying for some milliseconds.
    case waits
    /// It fails at once, as `contended`.
    case failsAtOnce
    /// The one or the other: as the socket blocks or not (O_NONBLOCK).
    case asSocket
}

extension Connectx {
    /// Where to connect from. What is nil is chosen: the address by the routing table, the port
    /// among those that are free for the destination.
    public struct Source: Hashable, Sendable {
        /// An address of this host; nil: as the routing table says.
        public var address: IPAddress?
        /// 1 to 65,535. Below `ip_unprivileged_port_start` it takes CAP_NET_BIND_SERVICE.
        public var port: UInt16?
        /// The index of the interface to bind to, as SO_BINDTOIFINDEX does (Linux 5.7 asks for no
        /// privilege, but the binding can then not be undone without CAP_NET_RAW).
        public var interface: UInt32?

        /// All is chosen.
        public static let any = Source()

        /// What is not given is chosen.
        public init(address: IPAddress? = nil, port: UInt16? = nil, interface: UInt32? = nil) {
            self.address = address
            self.port = port
            self.interface = interface
        }

        /// From an endpoint, of which `0.0.0.0`, `::` and port 0 are chosen. A scope is an
        /// interface to bind to.
        public init(_ endpoint: Endpoint, interface: UInt32? = nil) {
            self.init(
                address: endpoint.address.isAny ? nil : endpoint.address,
                port: endpoint.port == 0 ? nil : endpoint.port,
                interface: interface ?? (endpoint.scope == 0 ? nil : endpoint.scope))
        }
    }
}

package typealias Source = Connectx.Source

extension Connectx {
    /// How a connection came about.
    public enum Technique: UInt8, Hashable, Sendable, CaseIterable {
        /// connect(), and the kernel chooses what is missing. TCP ports are shared between
        /// destinations; for UDP this is for multicast only, which any number may listen to.
        case plain
        /// TCP from an address: IP_BIND_ADDRESS_NO_PORT, bind, connect (ip(7)).
        case bindAddressNoPort
        /// TCP from an address and a port: SO_REUSEADDR, bind, connect.
        case reuseAddress
        /// TCP, the older way: SO_REUSEADDR, bind to port 0, connect, and again with a new socket
        /// when the kernel's port was taken for this destination.
        case bindRetry
        /// TCP Fast Open: the first data in the SYN, where the kernel has a cookie of the server
        /// (tcp(7)).
        case fastOpen
        /// UDP: SO_REUSEADDR as a lock on the source address and port, with the bind barrier.
        case lock
        /// UDP: bind and connect, under a guard that refuses duplicates.
        case guarded
        /// UDP: a port that is shared with no one, because the kernel could not be asked for the
        /// sockets there (netlink refused), or the socket is in another network namespace.
        case exclusive
        /// UDP: a port that no other socket has, while there are many; shared once it is connected.
        case ownPort
    }
}

package typealias Technique = Connectx.Technique

/// Why a connection did not come about.
public struct ConnectError: Error, Hashable, Sendable {
    /// What stood against it.
    public enum Reason: UInt8, Hashable, Sendable, CaseIterable {
        /// The caller named a tuple that another socket holds, or a port that another socket
        /// does not share or waits on unconnected.
        case conflict
        /// No port that may be chosen is free for the destination.
        case exhausted
        /// The socket is already connected.
        case alreadyConnected
        /// The addresses are not of the socket's family, or not of one another's.
        case familyMismatch
        /// Neither a TCP nor a UDP socket.
        case unsupportedSocket
        /// No open descriptor of a socket.
        case badDescriptor
        /// An argument that makes no sense.
        case invalidArgument
        /// The source address belongs to no interface of this host.
        case sourceNotLocal
        /// The routing table has no way to the destination.
        case noRoute
        /// Others wait on the port that the caller named, or are just connecting from it, and the
        /// caller did not want to wait.
        case contended
        /// Sharing is not safe here: the kernel can't be asked for the sockets on this port, and
        /// the port is in use.
        case cannotShare
        /// No more descriptors, or no more memory.
        case outOfResources
        /// The source port needs CAP_NET_BIND_SERVICE, the device CAP_NET_RAW, or a filter refuses.
        case notPermitted
        /// It took longer than the caller wanted to wait.
        case timedOut
        /// The task was cancelled.
        case cancelled
        /// The host's name has no address.
        case unknownHost
        /// The socket did not take an option that `configure` set.
        case optionRefused
        /// Another error of connect(2), which `errno` tells.
        case connectFailed
    }

    /// What stood against it; `description` says what to do about it.
    public let reason: Reason
    /// What a caller of connect(2) would expect, and what the C function sets.
    public let errno: Int32
    /// As far as it was known: what was not is unspecified, or 0.
    public let tuple: Connectx.FourTuple

    /// The name of the host that was looked up, if the caller gave one.
    public package(set) var host: String?
    /// Whether it was bind(2) that failed.
    package let isFromBind: Bool

    package init(
        _ reason: Reason, _ errno: Int32, _ tuple: FourTuple, isFromBind: Bool = false
    ) {
        self.reason = reason
        self.errno = errno
        self.tuple = tuple
        self.isFromBind = isFromBind
    }
}

extension ConnectError.Reason {
    /// What an error of bind(2) or connect(2) comes down to.
    package init(_ error: Int32, isFromBind: Bool) {
        switch error {
        case EADDRNOTAVAIL where isFromBind: self = .sourceNotLocal
        case ENETUNREACH, EHOSTUNREACH, ENETDOWN: self = .noRoute
        case EACCES, EPERM: self = .notPermitted
        case EMFILE, ENFILE, ENOMEM, ENOBUFS: self = .outOfResources
        case EISCONN: self = .alreadyConnected
        case EAFNOSUPPORT: self = .familyMismatch
        case EINVAL: self = .invalidArgument
        default: self = .connectFailed
        }
    }
}
