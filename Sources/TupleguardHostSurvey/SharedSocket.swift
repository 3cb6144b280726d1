// SPDX-License-Identifier: Apache-2.0
// A socket that shares its tuple, with whoever has it open.

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
