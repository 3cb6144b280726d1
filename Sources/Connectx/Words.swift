// SPDX-License-Identifier: Apache-2.0
// Techniques and errors in words.

import CTupleguardLinux
public import ConnectxCore
import TupleguardSockets

extension Connectx.Technique: CustomStringConvertible {
    /// The name, as `tupleguard connect --show` and JSON have it.
    public var name: String {
        switch self {
        case .plain: "plain"
        case .bindAddressNoPort: "bind_address_no_port"
        case .reuseAddress: "reuse_address"
        case .bindRetry: "bind_retry"
        case .fastOpen: "fast_open"
        case .ownPort: "own_port"
        case .lock: "lock"
        case .guarded: "guarded"
        case .exclusive: "exclusive"
        }
    }

    /// What was done, in a few words.
    public var description: String {
        switch self {
        case .plain: "connect"
        case .bindAddressNoPort: "IP_BIND_ADDRESS_NO_PORT, bind, connect"
        case .reuseAddress: "SO_REUSEADDR, bind, connect"
        case .bindRetry: "SO_REUSEADDR, bind to port 0, connect, until it fits"
        case .fastOpen: "TCP Fast Open"
        case .ownPort: "bind to a port that nobody has, connect, SO_REUSEADDR"
        case .lock: "SO_REUSEADDR as a lock, with the bind barrier"
        case .guarded: "bind, connect, under a guard"
        case .exclusive: "a port that is not shared"
        }
    }
}

extension ConnectError.Reason {
    /// The name, as JSON has it.
    public var name: String {
        switch self {
        case .conflict: "conflict"
        case .exhausted: "exhausted"
        case .alreadyConnected: "already_connected"
        case .familyMismatch: "family_mismatch"
        case .unsupportedSocket: "unsupported_socket"
        case .badDescriptor: "bad_descriptor"
        case .invalidArgument: "invalid_argument"
        case .sourceNotLocal: "source_not_local"
        case .noRoute: "no_route"
        case .contended: "contended"
        case .cannotShare: "cannot_share"
        case .outOfResources: "out_of_resources"
        case .notPermitted: "not_permitted"
        case .timedOut: "timed_out"
        case .cancelled: "cancelled"
        case .unknownHost: "unknown_host"
        case .optionRefused: "option_refused"
        case .connectFailed: "connect_failed"
        }
    }

    /// Why, and what to do about it.
    fileprivate var explanation: String {
        switch self {
        case .conflict:
            "another socket has this source and destination, or does not share the port; leave the port open, or name another"
        case .exhausted:
            "every port that may be chosen is busy for this destination; use more destinations or source addresses, or widen net.ipv4.ip_local_port_range"
        case .alreadyConnected: "the socket is connected; make a new one"
        case .familyMismatch: "IPv4 and IPv6 do not mix; give both ends, and the socket, one family"
        case .unsupportedSocket: "only TCP and UDP sockets can be connected this way"
        case .badDescriptor: "no open socket has this descriptor"
        case .invalidArgument:
            "an argument makes no sense: port 0, first data that is empty, or a source other than the socket is bound to"
        case .sourceNotLocal: "no interface of this host has the source address; see `ip address`"
        case .noRoute: "there is no way to the destination; see `ip route get`"
        case .contended:
            "others wait on this port, or are just connecting from it; try again, or leave the port open"
        case .cannotShare:
            "the port is in use, and the kernel may not be asked who has it (netlink is refused), so sharing is not safe; leave the port open"
        case .outOfResources: "no more descriptors or memory; see `ulimit -n`"
        case .notPermitted:
            "a port below ip_unprivileged_port_start, a device, a broadcast address or a filter stands against it"
        case .timedOut: "the destination did not answer in time"
        case .cancelled: "the task was cancelled"
        case .unknownHost: "the host's name has no address; see `getent ahosts`"
        case .optionRefused: "the socket refuses an option; see socket(7), ip(7) and ipv6(7)"
        case .connectFailed: "see connect(2)"
        }
    }
}

extension ConnectError: CustomStringConvertible {
    /// "cannot connect 127.0.0.1:40000 -> 127.0.0.1:53: Address already in use (EADDRINUSE): …"
    public var description: String {
        "cannot connect \(from)\(to): \(Errno(errno)): \(explanation)"
    }

    /// What is known of the local end: "127.0.0.1:4000 -> ", "127.0.0.1 -> " or nothing.
    private var from: String {
        switch (tuple.local.address.isAny, tuple.local.port) {
        case (true, 0): ""
        case (false, 0): "\(tuple.local.address) -> "
        default: "\(tuple.local) -> "
        }
    }

    /// The host by its name, where that has not become an address.
    private var to: String {
        guard let host else { return "\(tuple.remote)" }
        let printable = String(
            host.unicodeScalars.map { $0.value > 32 && $0.value < 127 ? Character($0) : "?" })
        return tuple.remote.address.isAny
            ? "\(printable):\(tuple.remote.port)" : "\(printable) at \(tuple.remote)"
    }

    private var explanation: String {
        if errno == ECONNREFUSED { return "nothing listens there" }
        if reason == .conflict && isFromBind {
            return
                "another socket has the port and does not share it (SO_REUSEADDR), or listens on it; leave the port open, or name another"
        }
        return reason.explanation
    }
}
