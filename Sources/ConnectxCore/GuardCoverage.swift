// SPDX-License-Identifier: Apache-2.0
// Whether a guard refuses duplicates for the sockets that this process makes.

import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// Found out by trying: two sockets go for one tuple, and the second is refused, or not.
struct GuardCoverage {
    private var isCovered = false
    /// The cgroup that our new sockets belong to; 0 when the kernel does not tell.
    private(set) var cgroup: UInt64 = 0
    private var triedAt: UInt64 = 0

    /// How long an answer holds, in nanoseconds. A guard may be attached or detached at any
    /// time; trying takes about 15 us.
    private static let validity: UInt64 = 1_000_000_000

    /// What reality disagreed with is asked again.
    mutating func forget() { triedAt = 0 }

    /// Whether new sockets of this process are guarded, as of at most a second ago.
    mutating func covers(now: UInt64, diag: inout SocketDiag?) -> Bool {
        if triedAt != 0 && now &- triedAt <= Self.validity { return isCovered }
        triedAt = now
        isCovered = false
        do throws(Errno) { isCovered = try tryItself(diag: &diag) } catch {}
        return isCovered
    }

    /// On loopback, from a socket's own address to itself: a tuple that nobody else wants, and
    /// that the guard knows for what it is (`is_self_test` in guard.bpf.c).
    private mutating func tryItself(diag: inout SocketDiag?) throws(Errno) -> Bool {
        let first = try ThrowAway(family: AF_INET)
        guard first.socket.bindName(Endpoint(IPAddress(v4: 127, 0, 0, 1), 0), scope: 0) == 0
        else { return false }
        let raw = first.socket.raw
        let own = try Endpoint { getsockname(raw, $0, $1) }
        guard first.socket.connectName(Destination(own)) == 0 else { return false }
        if diag != nil {
            cgroup = try diag!.receiver(of: FourTuple(local: own, remote: own))?.cgroup ?? 0
        }
        let second = try ThrowAway(family: AF_INET)
        guard second.socket.bindName(own, scope: 0) == 0 else { return false }
        return isRefusal(second.socket.connectName(Destination(own)))
    }
}

/// Errors with which a guard refuses (its `--errno`), and which connect(2) gives a bound UDP
/// socket for no other reason than a program on its cgroup.
func isRefusal(_ error: Int32) -> Bool {
    error == EPERM || error == EADDRNOTAVAIL || error == EADDRINUSE || error == EAGAIN
}
