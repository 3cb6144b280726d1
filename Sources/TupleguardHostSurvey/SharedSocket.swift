// SPDX-License-Identifier: Apache-2.0
// Sockets that share a tuple, with whoever has them open.

package import TupleguardLinux
package import TupleguardRecords
package import TupleguardSocketDiag

extension SharedSocket {
    /// A socket as netlink lists it, and the processes that have it open.
    package init(_ record: SocketRecord, owners: SocketOwners, cgroups: CgroupNames) {
        self.init(
            cookie: record.cookie, uid: record.uid, cgroup: cgroups.path(of: record.cgroup),
            processes: owners.processes(of: record.inode).compactMap {
                ProcessIdentity(pid: $0)
            })
    }
}

extension ShadowSides {
    package init(_ shadow: Shadow, owners: SocketOwners, cgroups: CgroupNames) {
        func describe(_ socket: SocketRecord) -> SharedSocket {
            SharedSocket(socket, owners: owners, cgroups: cgroups)
        }
        let overshadowed = shadow.overshadowed.map(describe)
        let judgement = shadow.judgement
        if let doubt = judgement.doubt {
            let contenders = judgement.contenders.map { contender in
                var socket = describe(contender.socket)
                socket.foundOn = contender.processors
                return socket
            }
            self.init(contenders: contenders, dependsOn: doubt, overshadowed: overshadowed)
        } else {
            self.init(
                receiver: describe(judgement.contenders[0].socket), overshadowed: overshadowed)
        }
    }
}
