// SPDX-License-Identifier: Apache-2.0
// Faults of some kernels that cost ports or answers: tried out where that disturbs nobody, else
// told from the version.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// Which known faults the running kernel has.
package struct KernelFaults: Hashable, Sendable {
    /// How a fault was established.
    package enum Basis: String, Sendable {
        /// It showed when it was tried.
        case measured
        /// It could not be tried, and kernels of this version have it.
        case version
    }

    /// A UDP socket that is connected once more stays in the hash of 4-tuples where its first
    /// destination put it.
    package var staleTupleHash: Basis?
    /// A TCP port that a bind() shared with connected sockets stays closed to connect() when that
    /// socket has gone, until the last of the others has.
    package var closedPorts: Basis?

    package init() {}

    /// Of this kernel, tried once for as long as we run.
    package static let running: KernelFaults = {
        let kernel = KernelVersion.running
        var faults = KernelFaults()
        faults.staleTupleHash = basis(
            measured: try? hashIsStale(), expected: kernel.map(mayHaveStaleHash) ?? false)
        faults.closedPorts = basis(
            measured: try? Thread.run { try portsStayClosed() },
            expected: kernel.map(mayKeepPortsClosed) ?? false)
        return faults
    }()

    /// - Parameter measured: nil when it could not be tried.
    static func basis(measured: Bool?, expected: Bool) -> Basis? {
        guard let measured else { return expected ? .version : nil }
        return measured ? .measured : nil
    }

    /// Seen on 6.18.15 and 6.18.44; before 6.13 there is no such hash, and 7.2 does not have it.
    static func mayHaveStaleHash(_ kernel: KernelVersion) -> Bool {
        kernel >= KernelVersion(6, 13) && kernel < KernelVersion(6, 19)
    }

    /// Seen on 6.1 and 6.12; not on 6.18 and 7.2.
    static func mayKeepPortsClosed(_ kernel: KernelVersion) -> Bool {
        kernel < KernelVersion(6, 18)
    }
}

// MARK: - The hash of 4-tuples

/// What a trial came to that says nothing.
private struct Inconclusive: Error {}

/// Whether of two UDP sockets with one tuple the one that was connected first is found, although
/// the other was connected last, for the second time.
///
/// The tuple is that of a socket with itself on the loopback interface, which nobody else wants and
/// every guard knows for a trial (see `GuardCoverage`): a guarded process learns nothing, and is
/// accused of nothing. No packet is sent.
private func hashIsStale() throws -> Bool {
    // Older ones have no such hash, and prefer who came to the port last.
    guard let kernel = KernelVersion.running, kernel >= KernelVersion(6, 13) else { return false }
    let loopback = IPAddress(v4: 127, 0, 0, 1)
    let elsewhere = try Trial(SOCK_DGRAM, bound: Endpoint(loopback, 0))
    let choosing = try Trial(SOCK_DGRAM, bound: Endpoint(loopback, 0))
    // A port that was asked for stays when the socket disconnects; one that was chosen does not.
    let name = try choosing.localName()
    let moving = try Trial(SOCK_DGRAM, bound: name)
    try moving.connect(to: elsewhere.localName())
    let staying = try Trial(SOCK_DGRAM, bound: name)
    try staying.connect(to: name)
    try moving.connect(to: name)
    var diag = try SocketDiag()
    let found = try diag.receiver(of: FourTuple(local: name, remote: name))?.cookie
    switch found {
    case try staying.cookie(): return true
    case try moving.cookie(): return false
    default: throw Inconclusive()
    }
}

// MARK: - Closed ports

/// Whether a bind() that has gone leaves a port closed that connected sockets share.
///
/// In a network namespace of its own, with one port to choose from; needs CAP_SYS_ADMIN. For a
/// thread that ends afterwards.
private func portsStayClosed() throws -> Bool {
    try Errno.check { linux_new_network_namespace() }
    try Errno.check { linux_bring_up_loopback() }
    let only: UInt16 = 40_000
    try Proc.system.set("net/ipv4/ip_local_port_range", to: "\(only) \(only)")
    func destination(_ number: UInt8) -> Endpoint { Endpoint(IPAddress(v4: 127, 0, 0, number), 80) }
    let server = try Trial(SOCK_STREAM, bound: Endpoint(IPAddress(v4: 0, 0, 0, 0), 80))
    try server.listen()
    let first = try Trial(SOCK_STREAM)
    let second = try Trial(SOCK_STREAM)
    let third = try Trial(SOCK_STREAM)
    try first.connect(to: destination(1))
    // Where these two cannot share the port, the trial says nothing.
    try second.connect(to: destination(2))
    try bindAndGo(Endpoint(IPAddress(v4: 127, 0, 0, 1), only))
    do throws(Errno) {
        try third.connect(to: destination(3))
        return false
    } catch {
        guard error.number == EADDRNOTAVAIL else { throw error }
        return true
    }
}

private func bindAndGo(_ name: Endpoint) throws {
    _ = try Trial(SOCK_STREAM, bound: name)
}

/// A socket of a trial. It shares its port.
private struct Trial: ~Copyable {
    private let descriptor: OwnedDescriptor

    init(_ type: __socket_type, bound name: Endpoint? = nil) throws(Errno) {
        let descriptor = try OwnedDescriptor {
            socket(AF_INET, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
        }
        let raw = descriptor.raw
        try SocketOption.reuseAddress.set(raw, 1)
        if let name {
            try Errno.check { name.withSocketAddress(family: AF_INET) { bind(raw, $0, $1) } }
        }
        self.descriptor = descriptor
    }

    func connect(to remote: Endpoint) throws(Errno) {
        let raw = descriptor.raw
        try Errno.check { remote.withSocketAddress(family: AF_INET) { Glibc.connect(raw, $0, $1) } }
    }

    func listen() throws(Errno) {
        let raw = descriptor.raw
        try Errno.check { Glibc.listen(raw, 8) }
    }

    func localName() throws(Errno) -> Endpoint {
        let raw = descriptor.raw
        return try Endpoint { getsockname(raw, $0, $1) }
    }

    func cookie() throws(Errno) -> UInt64 { try SocketOption.cookie.get(descriptor.raw) }
}
