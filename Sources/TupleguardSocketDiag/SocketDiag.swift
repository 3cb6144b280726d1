// SPDX-License-Identifier: Apache-2.0
// SOCK_DIAG: look one socket up, list many, destroy one.

import CTupleguardLinux
package import TupleguardSockets

/// Asks the kernel for the TCP and UDP sockets of one network namespace (sock_diag(7)).
///
/// Needs no privilege, except to destroy.
package struct SocketDiag: ~Copyable {
    private var netlink: NetlinkSocket
    /// Whether the descriptor is still ours; see `NetlinkSocket`.
    package var isIntact: Bool { netlink.isIntact }
    /// The one that is asked.
    package let namespace: NamespaceIdentity

    private static let byFamily: UInt16 = 20  // SOCK_DIAG_BY_FAMILY
    private static let destroy: UInt16 = 21  // SOCK_DESTROY
    private static let anyCookie = (UInt32.max, UInt32.max)
    private static let replySize = 1024

    /// In the network namespace of the calling thread, which may move on afterwards.
    package init() throws(Errno) {
        let netlink = try NetlinkSocket(.socketDiag)
        let namespace = try NamespaceIdentity.ofNewSocket(netlink.raw)
        self.init(netlink, namespace: namespace)
    }

    /// Asks over `netlink`, which may be a test's.
    package init(_ netlink: consuming NetlinkSocket, namespace: NamespaceIdentity) {
        self.netlink = netlink
        self.namespace = namespace
    }

    // MARK: - One socket

    /// The UDP socket that a packet from `tuple.remote` to `tuple.local` would reach: one that is
    /// connected with this tuple, or else one that is bound to the local address and port.
    ///
    /// Its cost grows with the sockets on the local address and port (udp4_lib_lookup2).
    ///
    /// - Parameter interface: the device that packets come in by; sockets bound to another
    ///   one are not found.
    /// - Returns: nil when there is none.
    package mutating func receiver(of tuple: FourTuple, interface: UInt32 = 0) throws(Errno)
        -> SocketRecord?
    {
        // For UDP the kernel reads the request as the packet's: source first (udp_dump_one).
        var request = NetlinkRequest(type: Self.byFamily)
        request.append(
            Self.body(
                .udp, source: tuple.remote, destination: tuple.local, interface: interface))
        var found: SocketRecord?
        do throws(Errno) {
            try withUnsafeTemporaryAllocation(byteCount: Self.replySize, alignment: 8) {
                buffer throws(Errno) in
                try netlink.ask(&request, buffer: buffer) {
                    if $0.type == Self.byFamily { found = SocketRecord($0.payload) }
                }
            }
        } catch {
            // Nobody there; for TCP and UDP alike.
            guard error.number == ENOENT else { throw error }
            return nil
        }
        return found
    }

    // MARK: - Many sockets

    /// Which sockets a listing is to have.
    package struct Filter: Sendable {
        /// Bit n for state n; 0xffff for all.
        package var states: UInt32 = 0xffff
        /// Only sockets with this remote endpoint, and those with none (remote port 0).
        package var remoteOrUnconnected: Endpoint?

        package init() {}
    }

    /// Hands every socket of one family to `visit`. AF_INET6 has the sockets with v4-mapped
    /// addresses too, AF_INET has not.
    ///
    /// The kernel walks its whole table, so one listing costs as much as there are sockets; the
    /// filter runs in the kernel and saves what telling them would cost. Sockets that come and
    /// go meanwhile may be missing or told twice.
    ///
    /// - Parameter buffer: for the replies; 32 KB is best.
    package mutating func list(
        _ transport: Transport, family: Int32, filter: Filter = Filter(),
        buffer: UnsafeMutableRawBufferPointer, visit: (SocketRecord) -> Void
    ) throws(Errno) {
        var request = NetlinkRequest(type: Self.byFamily, flags: .dump)
        var body = inet_diag_req_v2()
        body.sdiag_family = UInt8(truncatingIfNeeded: family)
        body.sdiag_protocol = transport.rawValue
        body.idiag_states = filter.states
        request.append(body)
        if let remote = filter.remoteOrUnconnected { request.appendFilter(remote) }
        try netlink.ask(&request, buffer: buffer) { message in
            guard message.type == Self.byFamily, let record = SocketRecord(message.payload)
            else { return }
            visit(record)
        }
    }

    // MARK: - Ending a socket

    /// Ends the socket that `record` describes: its owner gets ECONNABORTED once (SOCK_DESTROY).
    ///
    /// For UDP only the socket that receives can be reached, not one that it overshadows.
    ///
    /// - Throws: EPERM without CAP_NET_ADMIN, ENOENT when it is gone or not the one that
    ///   receives, EOPNOTSUPP where the kernel was built without it (CONFIG_INET_DIAG_DESTROY).
    package mutating func destroy(_ record: SocketRecord, _ transport: Transport) throws(Errno) {
        var body = Self.body(
            transport, source: record.tuple.local, destination: record.tuple.remote,
            interface: record.interface)
        body.id.idiag_cookie = (
            UInt32(truncatingIfNeeded: record.cookie),
            UInt32(truncatingIfNeeded: record.cookie >> 32)
        )
        var request = NetlinkRequest(type: Self.destroy, flags: .acknowledge)
        request.append(body)
        try withUnsafeTemporaryAllocation(byteCount: Self.replySize, alignment: 8) {
            buffer throws(Errno) in try netlink.ask(&request, buffer: buffer) { _ in }
        }
    }

    /// What asks for one socket.
    private static func body(
        _ transport: Transport, source: Endpoint, destination: Endpoint, interface: UInt32
    ) -> inet_diag_req_v2 {
        var body = inet_diag_req_v2()
        let isIPv4 = destination.address.isIPv4 || source.address.isIPv4
        body.sdiag_family = UInt8(isIPv4 ? AF_INET : AF_INET6)
        body.sdiag_protocol = transport.rawValue
        body.idiag_states = .max
        body.id.idiag_src = source.address.diagWords(isIPv4: isIPv4)
        body.id.idiag_dst = destination.address.diagWords(isIPv4: isIPv4)
        body.id.idiag_sport = source.port.bigEndian
        body.id.idiag_dport = destination.port.bigEndian
        body.id.idiag_if = interface
        body.id.idiag_cookie = anyCookie
        return body
    }
}

extension IPAddress {
    /// As an `inet_diag_sockid` has it: IPv4 in the first word.
    fileprivate func diagWords(isIPv4: Bool) -> (UInt32, UInt32, UInt32, UInt32) {
        isIPv4 ? (networkWords.3, 0, 0, 0) : networkWords
    }
}

extension NetlinkRequest {
    /// The filter as the kernel runs it (inet_diag_bc_run): pairs of a test and how many bytes to
    /// go on by when it holds and when it does not. The end accepts, four bytes past it reject.
    fileprivate mutating func appendFilter(_ remote: Endpoint) {
        // inet_diag.h: enumeration constants, which Swift imports as other types.
        let portAtMost: UInt8 = 5
        let remoteHost: UInt8 = 8
        let jump: UInt8 = 1
        let isIPv4 = remote.address.isIPv4
        let addressSize = isIPv4 ? 4 : 16
        let testSize = 4 + 8 + addressSize
        append(UInt16(4 + testSize + 4 + 8))
        append(UInt16(1))  // INET_DIAG_REQ_BYTECODE
        // The remote is the one: to the jump; it is not: over it.
        append(remoteHost)
        append(UInt8(testSize))
        append(UInt16(testSize + 4))
        append(UInt8(isIPv4 ? AF_INET : AF_INET6))  // inet_diag_hostcond, and its address
        append(UInt8(addressSize * 8))
        append(UInt16(0))
        append(Int32(remote.port))
        let words = remote.address.networkWords
        if isIPv4 { append(words.3) } else { append(words) }
        // To the end, which accepts. (A jump never holds.)
        append(jump)
        append(UInt8(4))
        append(UInt16(4 + 8))
        // No remote port: accepted. Else rejected.
        append(portAtMost)
        append(UInt8(8))
        append(UInt16(12))
        append(UInt32(0))  // the port is in the upper half of the next test
    }
}
