// SPDX-License-Identifier: Apache-2.0
// By what one network namespace is told from another.

import CTupleguardLinux

/// Which network namespace a socket is in: equal for sockets of one, on every kernel.
package struct NamespaceIdentity: Equatable, Sendable {
    /// Of the file that a namespace is; 0 where `number` is a cookie.
    private let device: UInt64
    /// The cookie (SO_NETNS_COOKIE, Linux 5.14); before that the file's inode, which another
    /// namespace may get once nothing of this one is left.
    private let number: UInt64

    /// What the kernel's programs know the namespace by; nil before Linux 5.14.
    package var cookie: UInt64? { device == 0 ? number : nil }

    package init(cookie: UInt64) {
        device = 0
        number = cookie
    }

    private init(_ file: linux_file) {
        device = file.device
        number = file.inode
    }

    /// Of a socket that the calling thread has just made.
    package static func ofNewSocket(_ socket: Int32) throws(Errno) -> NamespaceIdentity {
        try read(socket) { _, file in linux_identify_own_namespace(file) }
    }

    /// Of any socket.
    ///
    /// Without SO_NETNS_COOKIE only who has CAP_NET_ADMIN there may ask (SIOCGSKNS). For others it
    /// is the calling thread's, where nearly all their sockets are: who relies on it has to see the
    /// socket there by other means.
    package static func of(_ socket: Int32) throws(Errno) -> NamespaceIdentity {
        try read(socket) { socket, file in
            if linux_identify_namespace(socket, file) == 0 { return 0 }
            return linux_identify_own_namespace(file)
        }
    }

    private static func read(
        _ socket: Int32, older: (Int32, UnsafeMutablePointer<linux_file>) -> Int32
    ) throws(Errno) -> NamespaceIdentity {
        do throws(Errno) {
            return NamespaceIdentity(cookie: try SocketOption.networkNamespaceCookie.get(socket))
        } catch {
            guard error.number == ENOPROTOOPT else { throw error }
        }
        var file = linux_file()
        guard older(socket, &file) == 0 else { throw .last }
        return NamespaceIdentity(file)
    }
}
