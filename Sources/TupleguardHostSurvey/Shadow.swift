// SPDX-License-Identifier: Apache-2.0
// Connected UDP sockets that share a 4-tuple.

package import TupleguardLinux
package import TupleguardSocketDiag
package import TupleguardSockets

/// Two or more connected UDP sockets with one 4-tuple.
package struct Shadow: Sendable {
    package let namespace: NetworkNamespace
    package let tuple: FourTuple
    /// The device that they are bound to, all or some of them; 0 for none.
    package let interface: UInt32
    /// The one that the kernel gives the datagrams to.
    package let receiver: SocketRecord
    /// Those that wait in vain.
    package let overshadowed: [SocketRecord]

    package var members: [SocketRecord] { [receiver] + overshadowed }

    /// Which sockets they are, for as long as the machine runs.
    package var cookies: Set<UInt64> { Set(members.map(\.cookie)) }

    /// Destroys the socket that receives (SOCK_DESTROY), the only one that can be reached: its
    /// owner gets ECONNABORTED, and the next one receives again.
    ///
    /// From Linux 6.16 on it is the one that connected last; before that it may be an older one.
    ///
    /// - Throws: EPERM without CAP_NET_ADMIN, ENOENT when it is gone or receives no more.
    package func destroyReceiver() throws {
        let receiver = receiver
        try namespace.inside {
            var diag = try SocketDiag()
            try diag.destroy(receiver, .udp)
        }
    }
}
