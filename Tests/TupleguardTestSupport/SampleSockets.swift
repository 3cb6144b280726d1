// SPDX-License-Identifier: Apache-2.0
// Sockets that the kernel never had, for tests of what is made of them.

import CTupleguardLinux
import Glibc
package import TupleguardSocketDiag
import TupleguardSockets

/// A connected UDP socket as SOCK_DIAG tells of one; `cookie` is its inode too.
package func makeSocketRecord(
    _ local: String, _ remote: String, cookie: UInt32, cgroup: UInt64 = 0
) -> SocketRecord {
    let (local, remote) = (Endpoint(local)!, Endpoint(remote)!)
    var body = inet_diag_msg()
    body.idiag_family = UInt8(AF_INET6)
    body.idiag_state = 1
    body.id.idiag_src = local.address.networkWords
    body.id.idiag_dst = remote.address.networkWords
    body.id.idiag_sport = local.port.bigEndian
    body.id.idiag_dport = remote.port.bigEndian
    body.id.idiag_cookie = (cookie, 0)
    body.idiag_inode = cookie
    // INET_DIAG_CGROUP_ID: four bytes of head, eight of value.
    var payload = withUnsafeBytes(of: body) { Array($0) }
    payload += withUnsafeBytes(of: (UInt16(12), UInt16(21))) { Array($0) }
    payload += withUnsafeBytes(of: cgroup) { Array($0) }
    return payload.withUnsafeBytes { SocketRecord($0)! }
}
