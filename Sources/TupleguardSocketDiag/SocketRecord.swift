// SPDX-License-Identifier: Apache-2.0
// A socket as the kernel describes it over SOCK_DIAG.

import CTupleguardLinux
package import TupleguardSockets

/// What SOCK_DIAG says of one TCP or UDP socket (sock_diag(7)).
package struct SocketRecord: Hashable, Sendable {
    /// AF_INET or AF_INET6.
    package let family: UInt8
    /// As in net/tcp_states.h: 1 connected, 7 not connected (UDP), 6 TIME_WAIT, 10 listening.
    package let state: UInt8
    /// The socket's own view: local is what it is bound to; unspecified and 0 where it is not.
    package let tuple: FourTuple
    /// The device that the socket is bound to, or 0.
    package let interface: UInt32
    package let cookie: UInt64
    package let uid: UInt32
    /// The inode of the socket's descriptors, as /proc/PID/fd shows it; 0 when it has none.
    package let inode: UInt32
    /// Milliseconds until its timer goes off: in TIME_WAIT, until it is over.
    package let expires: UInt32
    /// The cgroup that the socket was made in (Linux 5.7); 0 when it is not told.
    package let cgroup: UInt64
    /// Whether IP_BIND_ADDRESS_NO_PORT is set (Linux 5.10; false where it is not told).
    package let bindsAddressWithoutPort: Bool

    package var isConnected: Bool { state == 1 }

    private static let bodySize = 72
    private static let cgroupAttribute: UInt16 = 21  // INET_DIAG_CGROUP_ID
    private static let optionsAttribute: UInt16 = 22  // INET_DIAG_SOCKOPT

    /// Reads the payload of a SOCK_DIAG_BY_FAMILY message; nil for one that is too short or of
    /// another family.
    package init?(_ payload: UnsafeRawBufferPointer) {
        guard payload.count >= Self.bodySize else { return nil }
        let body = payload.loadUnaligned(as: inet_diag_msg.self)
        guard body.idiag_family == AF_INET || body.idiag_family == AF_INET6 else { return nil }
        family = body.idiag_family
        state = body.idiag_state
        tuple = FourTuple(
            local: Endpoint(
                IPAddress(family: family, body.id.idiag_src), UInt16(bigEndian: body.id.idiag_sport)
            ),
            remote: Endpoint(
                IPAddress(family: family, body.id.idiag_dst), UInt16(bigEndian: body.id.idiag_dport)
            ))
        interface = body.id.idiag_if
        cookie = UInt64(body.id.idiag_cookie.1) << 32 | UInt64(body.id.idiag_cookie.0)
        uid = body.idiag_uid
        inode = body.idiag_inode
        expires = body.idiag_expires
        var cgroup: UInt64 = 0
        var bindsAddressWithoutPort = false
        var attributes = NetlinkAttributes(
            UnsafeRawBufferPointer(rebasing: payload.dropFirst(Self.bodySize)))
        while let attribute = attributes.next() {
            if attribute.type == Self.cgroupAttribute && attribute.value.count >= 8 {
                cgroup = attribute.value.loadUnaligned(as: UInt64.self)
            } else if attribute.type == Self.optionsAttribute && attribute.value.count >= 2 {
                // struct inet_diag_sockopt: the first bit of its second byte.
                bindsAddressWithoutPort = attribute.value[1] & 1 != 0
            }
        }
        self.cgroup = cgroup
        self.bindsAddressWithoutPort = bindsAddressWithoutPort
    }
}

extension IPAddress {
    /// From the four words of an `inet_diag_sockid`, of which IPv4 uses the first.
    fileprivate init(family: UInt8, _ words: (UInt32, UInt32, UInt32, UInt32)) {
        guard family == AF_INET else {
            self.init(networkWords: words)
            return
        }
        self = words.0 == 0 ? .unspecified : IPAddress(networkWords: (0, 0, Self.mapped, words.0))
    }

    private static var mapped: UInt32 { UInt32(0xffff).bigEndian }
}
