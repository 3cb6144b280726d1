// SPDX-License-Identifier: Apache-2.0
// Which source address the routing table gives a destination, over rtnetlink(7).

import CTupleguardLinux

#if !hasFeature(Embedded)
    import Glibc
    import TupleguardSockets
    import TupleguardSocketDiag
#endif

/// What the route depends on besides the destination.
struct RouteQuestion {
    let destination: Destination
    /// The device that the socket is bound to, or 0.
    let interface: UInt32
    /// SO_MARK, or 0.
    let mark: UInt32
}

extension NetlinkSocket {
    /// The source address that the kernel would choose: `ip route get DESTINATION`.
    ///
    /// - Returns: nil when the reply names none.
    /// - Throws: ENETUNREACH and the like when there is no way.
    mutating func sourceAddress(for question: RouteQuestion) throws(Errno) -> IPAddress? {
        var request = linux_route_request()
        let size = request.fill(question)
        var source: IPAddress?
        try withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { buffer throws(Errno) in
            try withUnsafeMutableBytes(of: &request) { request throws(Errno) in
                let request = UnsafeMutableRawBufferPointer(rebasing: request[..<size])
                try ask(request, isDump: false, buffer: buffer) { source = $0.preferredSource }
            }
        }
        return source
    }
}

extension linux_route_request {
    /// - Returns: how many bytes of it to send. An interface or a mark of 0 asks for nothing.
    fileprivate mutating func fill(_ question: RouteQuestion) -> Int {
        let address = question.destination.endpoint.address
        let length = address.isIPv4 ? 4 : 16
        header.nlmsg_type = UInt16(RTM_GETROUTE)
        header.nlmsg_flags = 1  // NLM_F_REQUEST
        body.rtm_family = UInt8(address.isIPv4 ? AF_INET : AF_INET6)
        body.rtm_dst_len = UInt8(length * 8)
        interface_header = rtattr(rta_len: 8, rta_type: 4)  // RTA_OIF
        interface = question.interface != 0 ? question.interface : question.destination.scope
        mark_header = rtattr(rta_len: 8, rta_type: 16)  // RTA_MARK
        mark = question.mark
        destination_header = rtattr(rta_len: UInt16(4 + length), rta_type: 1)  // RTA_DST
        if address.isIPv4 {
            destination.0 = address.networkWords.3
        } else {
            destination = address.networkWords
        }
        return MemoryLayout<Self>.size - (16 - length)
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
