// SPDX-License-Identifier: Apache-2.0
// Socket options as values.

import CTupleguardLinux

/// A socket option of a fixed size: its level, its number, and the C type of its value.
package struct SocketOption<Value: BitwiseCopyable>: Sendable {
    let level: Int32
    let number: Int32

    package init(_ level: Int32, _ number: Int32) {
        self.level = level
        self.number = number
    }

    /// getsockopt(2)
    package func get(_ socket: Int32, initial: Value) throws(Errno) -> Value {
        var value = initial
        var length = socklen_t(MemoryLayout<Value>.size)
        if getsockopt(socket, level, number, &value, &length) != 0 { throw .last }
        return value
    }

    /// setsockopt(2)
    package func set(_ socket: Int32, _ value: Value) throws(Errno) {
        var value = value
        if setsockopt(socket, level, number, &value, socklen_t(MemoryLayout<Value>.size)) != 0 {
            throw .last
        }
    }
}

extension SocketOption where Value: FixedWidthInteger {
    /// getsockopt(2)
    package func get(_ socket: Int32) throws(Errno) -> Value { try get(socket, initial: 0) }
}

extension SocketOption where Value == Int32 {
    package static var type: Self { .init(SOL_SOCKET, SO_TYPE) }
    package static var transport: Self { .init(SOL_SOCKET, SO_PROTOCOL) }
    package static var reuseAddress: Self { .init(SOL_SOCKET, SO_REUSEADDR) }
    package static var reusePort: Self { .init(SOL_SOCKET, SO_REUSEPORT) }
    package static var error: Self { .init(SOL_SOCKET, SO_ERROR) }
    /// The index of the device that the socket is bound to, or 0 (Linux 5.1).
    package static var boundInterface: Self { .init(SOL_SOCKET, SO_BINDTOIFINDEX) }
    /// The port is chosen at connect, so that it needs to be free only for that destination
    /// (ip(7)).
    package static var bindAddressNoPort: Self { .init(LINUX_SOL_IP, IP_BIND_ADDRESS_NO_PORT) }
    /// bind() takes addresses that are not this host's (ip(7)); for sockets of both families.
    package static var freeBind: Self { .init(LINUX_SOL_IP, IP_FREEBIND) }
    /// The type of service, which routing policy may depend on (ip(7)).
    package static var serviceType: Self { .init(LINUX_SOL_IP, IP_TOS) }
    /// Only to hosts on a network that this one is on (socket(7)).
    package static var doNotRoute: Self { .init(SOL_SOCKET, SO_DONTROUTE) }
    /// Which of this host's IPv6 addresses to connect from (RFC 5014): IPV6_ADDR_PREFERENCES.
    package static var addressPreferences6: Self { .init(LINUX_SOL_IPV6, 72) }
    /// connect() returns at once, and the SYN goes with the first data (tcp(7), Linux 4.11).
    package static var fastOpenConnect: Self { .init(LINUX_SOL_TCP, LINUX_TCP_FASTOPEN_CONNECT) }
}

extension SocketOption where Value == UInt32 {
    /// The lowest and, in the upper half, the highest port that the kernel may choose; 0: the
    /// namespace's (ip(7), Linux 6.3).
    package static var localPortRange: Self { .init(LINUX_SOL_IP, LINUX_IP_LOCAL_PORT_RANGE) }
    /// The interface to send by, in network order, for a socket that is not bound to one; 0: none
    /// (ip(7), ipv6(7)).
    package static var unicastInterface: Self { .init(LINUX_SOL_IP, IP_UNICAST_IF) }
    package static var unicastInterface6: Self { .init(LINUX_SOL_IPV6, IPV6_UNICAST_IF) }
    /// SO_MARK, which routing policy may depend on.
    package static var mark: Self { .init(SOL_SOCKET, SO_MARK) }
}

extension SocketOption where Value == UInt64 {
    /// A number that no other socket of this boot has (SO_COOKIE).
    package static var cookie: Self { .init(SOL_SOCKET, SO_COOKIE) }
    /// The same for the network namespace that the socket is in (Linux 5.14).
    package static var networkNamespaceCookie: Self { .init(SOL_SOCKET, SO_NETNS_COOKIE) }
}

extension SocketOption where Value == UInt8 {
    /// The state of a TCP socket, as in net/tcp_states.h: the first member of TCP_INFO (tcp(7)).
    package static var tcpState: Self { .init(LINUX_SOL_TCP, LINUX_TCP_INFO) }
}
