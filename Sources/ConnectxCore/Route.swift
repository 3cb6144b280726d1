// SPDX-License-Identifier: Apache-2.0
// Which source address the routing table gives a destination, over rtnetlink(7).

import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

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
        var request = NetlinkRequest(type: UInt16(RTM_GETROUTE))
        request.append(body)
        let output = interface != 0 ? interface : destination.scope
        request.append(attribute: 4, output)  // RTA_OIF
        request.append(attribute: 16, mark)  // RTA_MARK
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
