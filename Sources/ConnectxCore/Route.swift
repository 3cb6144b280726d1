// SPDX-License-Identifier: Apache-2.0
// Which source address the routing table gives a destination, over rtnetlink(7).

import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// All that the route of a UDP socket depends on (ip4_datagram_connect, ip-rule(8)).
struct RouteQuestion: Equatable {
    let destination: Destination
    /// The source port where it is known, else 0.
    let port: UInt16
    /// The device that the socket is bound to, or else is to send by; or 0.
    private(set) var interface: UInt32 = 0
    /// SO_MARK, or 0.
    private(set) var mark: UInt32 = 0
    /// IP_TOS; IPv6 does not look at its like.
    private(set) var serviceType: UInt8 = 0
    /// The user that the socket belongs to; nil for the caller.
    private(set) var user: UInt32?
    /// Whether the socket has an option that a route is chosen by, and that rtnetlink(7) has no
    /// words for: SO_DONTROUTE, or a preference for some kind of IPv6 address (RFC 5014).
    private(set) var isBeyondNetlink = false

    /// Asks the socket for what the caller may have set.
    init(_ socket: Socket, _ destination: Destination, port: UInt16) {
        self.destination = destination
        self.port = port
        interface = socket.interface != 0 ? socket.interface : destination.scope
        if socket.isNew { return }
        let raw = socket.raw
        let isIPv4 = destination.endpoint.address.isIPv4
        mark = (try? SocketOption.mark.get(raw)) ?? 0
        if isIPv4 {
            serviceType = UInt8(truncatingIfNeeded: (try? SocketOption.serviceType.get(raw)) ?? 0)
            isBeyondNetlink = ((try? SocketOption.doNotRoute.get(raw)) ?? 0) != 0
        } else if let preferences = try? SocketOption.addressPreferences6.get(raw) {
            isBeyondNetlink = preferences & Self.specialPreferences != 0
        }
        if interface == 0 {
            let option: SocketOption<UInt32> = isIPv4 ? .unicastInterface : .unicastInterface6
            interface = UInt32(bigEndian: (try? option.get(raw)) ?? 0)
        }
        var file = linux_file()
        if linux_identify_file(raw, &file) == 0 { user = file.user }
    }

    /// IPV6_PREFER_SRC_TMP, _PUBLIC, _COA: what a socket has only because somebody set it.
    private static let specialPreferences: Int32 = 0x1 | 0x2 | 0x4
}

extension NetlinkSocket {
    /// The source address that the kernel would choose: `ip route get DESTINATION`.
    ///
    /// - Returns: nil when the reply names none.
    /// - Throws: ENETUNREACH and the like when there is no way.
    mutating func sourceAddress(for question: RouteQuestion) throws(Errno) -> IPAddress? {
        var request = question.request
        var source: IPAddress?
        try withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { buffer throws(Errno) in
            try ask(&request, buffer: buffer) { source = $0.preferredSource }
        }
        return source
    }
}

extension RouteQuestion {
    /// An interface or a mark of 0 asks for nothing.
    fileprivate var request: NetlinkRequest {
        let address = destination.endpoint.address
        var body = rtmsg()
        body.rtm_family = UInt8(address.isIPv4 ? AF_INET : AF_INET6)
        body.rtm_dst_len = address.isIPv4 ? 32 : 128
        body.rtm_tos = serviceType & 0xfc  // without the bits of ECN (INET_DSCP_MASK)
        var request = NetlinkRequest(type: UInt16(RTM_GETROUTE))
        request.append(body)
        request.append(attribute: 4, interface)  // RTA_OIF
        request.append(attribute: 16, mark)  // RTA_MARK
        request.append(attribute: 27, Transport.udp.rawValue)  // RTA_IP_PROTO
        if port != 0 { request.append(attribute: 28, port.bigEndian) }  // RTA_SPORT
        request.append(attribute: 29, destination.endpoint.port.bigEndian)  // RTA_DPORT
        if let user { request.append(attribute: 25, user) }  // RTA_UID
        let words = address.networkWords
        if address.isIPv4 {
            request.append(attribute: 1, words.3)  // RTA_DST
        } else {
            request.append(attribute: 1, words)
        }
        return request
    }
}

extension NetlinkMessage {
    /// RTA_PREFSRC of an RTM_NEWROUTE message.
    var preferredSource: IPAddress? {
        let bodySize = MemoryLayout<rtmsg>.size
        guard type == UInt16(RTM_NEWROUTE), payload.count >= bodySize else { return nil }
        var attributes = NetlinkAttributes(
            UnsafeRawBufferPointer(rebasing: payload.dropFirst(bodySize)))
        while let (type, value) = attributes.next() {
            guard type == 7 else { continue }  // RTA_PREFSRC
            switch value.count {
            case 4:
                return IPAddress(
                    networkWords: (
                        0, 0, UInt32(0xffff).bigEndian, value.loadUnaligned(as: UInt32.self)
                    ))
            case 16:
                return IPAddress(
                    networkWords: value.loadUnaligned(as: (UInt32, UInt32, UInt32, UInt32).self))
            default: return nil
            }
        }
        return nil
    }
}
