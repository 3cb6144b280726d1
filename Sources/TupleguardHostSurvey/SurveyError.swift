// SPDX-License-Identifier: Apache-2.0
// Why the sockets of our own network namespace could not be looked at.

import Glibc
package import TupleguardSockets

/// What the kernel refused when it was asked for the sockets, and what to do about it.
package struct SurveyError: Error, CustomStringConvertible {
    package let errno: Errno

    package init(_ errno: Errno) {
        self.errno = errno
    }

    package var description: String {
        "cannot list the sockets: \(errno)" + (remedy.map { "; \($0)" } ?? "")
    }

    private var remedy: String? {
        switch errno.number {
        case EAFNOSUPPORT, EPERM, EACCES:
            "netlink is denied to this process: allow AF_NETLINK in what confines it (systemd: RestrictAddressFamilies=)"
        case EPROTONOSUPPORT, ENOENT:
            "this kernel does not answer SOCK_DIAG for UDP and TCP: load inet_diag, udp_diag and tcp_diag (modprobe)"
        default: nil
        }
    }
}
