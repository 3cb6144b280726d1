// SPDX-License-Identifier: Apache-2.0
// ctnetlink: list the connections that the kernel tracks and sends on from another port.

import CTupleguardLinux
package import TupleguardSocketDiag
package import TupleguardSockets

/// Asks the kernel for the tracked connections of one network namespace, as conntrack(8) does.
///
/// Needs CAP_NET_ADMIN there. The first question loads nf_conntrack_netlink where that is a module;
/// who asks only where connections are tracked makes nothing else be loaded.
package struct Conntrack: ~Copyable {
    private var netlink: NetlinkSocket

    /// NFNL_SUBSYS_CTNETLINK in the upper byte, IPCTNL_MSG_CT_GET in the lower one.
    private static let get: UInt16 = 0x101
    /// IPCTNL_MSG_CT_NEW, as which the kernel tells each connection.
    private static let new: UInt16 = 0x100
    private static let statusAttribute: UInt16 = 3  // CTA_STATUS
    private static let statusMaskAttribute: UInt16 = 26  // CTA_STATUS_MASK

    /// In the network namespace of the calling thread.
    package init() throws(Errno) {
        self.init(try NetlinkSocket(.netfilter))
    }

    /// Asks over `netlink`, which may be a test's.
    package init(_ netlink: consuming NetlinkSocket) {
        self.netlink = netlink
    }

    /// Hands every TCP and UDP connection to `visit` whose source the kernel translates (SNAT,
    /// MASQUERADE). One whose source came out as it went in is none of them.
    ///
    /// The kernel walks its whole table. It leaves out the others by itself
    /// (ctnetlink_filter_match, Linux 5.15); one that does not tells them too, and they are left
    /// out here.
    ///
    /// - Parameter buffer: for the replies; 32 KB is best.
    package mutating func listTranslated(
        buffer: UnsafeMutableRawBufferPointer, visit: (ConntrackRecord) -> Void
    ) throws(Errno) {
        var request = NetlinkRequest(type: Self.get, flags: .dump)
        request.append(UInt32(0))  // struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0, no resource
        request.append(
            attribute: Self.statusAttribute, ConntrackRecord.sourceTranslated.bigEndian)
        request.append(
            attribute: Self.statusMaskAttribute, ConntrackRecord.sourceTranslated.bigEndian)
        try netlink.ask(&request, buffer: buffer) { message in
            guard message.type == Self.new, let record = ConntrackRecord(message.payload),
                record.isSourceTranslated
            else { return }
            visit(record)
        }
    }
}
