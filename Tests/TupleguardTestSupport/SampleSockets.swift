// SPDX-License-Identifier: Apache-2.0
// Sockets that the kernel never had, for tests of what is made of them.

import CTupleguardLinux
import Glibc
package import TupleguardHostSurvey
package import TupleguardLinux
package import TupleguardSocketDiag
import TupleguardSockets

/// A connected UDP socket as SOCK_DIAG tells of one; `cookie` is its inode too.
package func makeSocketRecord(
    _ local: String, _ remote: String, cookie: UInt32, cgroup: UInt64 = 0,
    family: Int32 = AF_INET6, interface: UInt32 = 0
) -> SocketRecord {
    let (local, remote) = (Endpoint(local)!, Endpoint(remote)!)
    var body = inet_diag_msg()
    body.idiag_family = UInt8(family)
    body.idiag_state = 1
    body.id.idiag_src = words(local.address, family)
    body.id.idiag_dst = words(remote.address, family)
    body.id.idiag_if = interface
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

/// IPv4 stands in the first word.
private func words(_ address: IPAddress, _ family: Int32) -> (UInt32, UInt32, UInt32, UInt32) {
    family == AF_INET ? (address.networkWords.3, 0, 0, 0) : address.networkWords
}

/// A tuple with several sockets, of which the first receives for certain.
package func makeShadow(_ sockets: [SocketRecord], in namespace: NetworkNamespace) -> Shadow {
    let rivals = Rivals(tuple: sockets[0].tuple, interface: 0, sockets: sockets)
    let setting = Judgement.Setting(
        kernel: KernelVersion(7, 2), processors: 1, isDemultiplexedEarly: false)
    let judgement = Judgement(of: sockets, found: [(0, sockets[0].cookie)], setting)
    return Shadow(namespace: namespace, rivals: rivals, judgement: judgement!)
}
