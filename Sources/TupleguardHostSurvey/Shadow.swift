// SPDX-License-Identifier: Apache-2.0
// Connected UDP sockets that share a 4-tuple.

package import TupleguardLinux
package import TupleguardSocketDiag
package import TupleguardSockets

/// Two or more connected UDP sockets with one 4-tuple.
package struct Shadow: Sendable {
    package let namespace: NetworkNamespace
    private let rivals: Rivals
    package let judgement: Judgement

    package init(namespace: NetworkNamespace, rivals: Rivals, judgement: Judgement) {
        self.namespace = namespace
        self.rivals = rivals
        self.judgement = judgement
    }

    package var tuple: FourTuple { rivals.tuple }
    /// The device that they are bound to, all or some of them; 0 for none.
    package var interface: UInt32 { rivals.interface }
    package var members: [SocketRecord] { rivals.sockets }

    /// The one that the kernel gives the datagrams to; nil where it is not always the same.
    package var receiver: SocketRecord? { judgement.receiver }

    /// Those that wait in vain.
    package var overshadowed: [SocketRecord] {
        let contenders = Set(judgement.contenders.map(\.socket.cookie))
        return members.filter { !contenders.contains($0.cookie) }.sorted { $0.inode < $1.inode }
    }

    /// Which sockets they are, for as long as the machine runs.
    package var cookies: Set<UInt64> { Set(members.map(\.cookie)) }

    /// Destroys one of the contenders (SOCK_DESTROY): its owner gets ECONNABORTED, and another one
    /// receives. Where there was no doubt it is asked again first whether that holds.
    ///
    /// - Throws: EPERM without CAP_NET_ADMIN, ENOENT when it is gone or is not reached,
    ///   `ReceiverChanged`.
    package func destroy(_ victim: SocketRecord) throws {
        let (rivals, isCertain) = (rivals, judgement.doubt == nil)
        try namespace.inside {
            if isCertain {
                let now = try Rivals.judge([rivals])[0]
                guard now?.receiver?.cookie == victim.cookie else { throw ReceiverChanged() }
            }
            try Rivals.end(victim)
        }
    }
}

/// Another socket receives than a moment before, or it is not certain any more which.
package struct ReceiverChanged: Error {}
