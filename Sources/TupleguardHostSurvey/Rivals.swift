// SPDX-License-Identifier: Apache-2.0
// Sockets that share a 4-tuple, asked after and ended on every processor.

import Glibc
import TupleguardLinux
package import TupleguardSocketDiag
package import TupleguardSockets

/// Connected UDP sockets that hold one 4-tuple and can meet: of one device, or of any.
package struct Rivals: Sendable {
    package let tuple: FourTuple
    /// The device that they are bound to, all or some of them; 0 for none.
    package let interface: UInt32
    /// As the kernel lists them: of each family, who came to the port last comes first.
    package let sockets: [SocketRecord]

    package init(tuple: FourTuple, interface: UInt32, sockets: [SocketRecord]) {
        self.tuple = tuple
        self.interface = interface
        self.sockets = sockets
    }

    /// Who receives of each group, in the calling thread's network namespace. Nil of those of which
    /// nobody does any more.
    package static func judge(_ groups: [Rivals]) throws(Errno) -> [Judgement?] {
        guard !groups.isEmpty else { return [] }
        let answers = try ask(groups)
        let kernel = KernelVersion.running
        let processors = Processors.onlineCount
        return groups.enumerated().map { index, rivals in
            let found = answers.map { ($0.processor, $0.cookies[index]) }
            let setting = Judgement.Setting(
                kernel: kernel, processors: processors,
                isDemultiplexedEarly: Arrival(of: rivals.tuple).isDemultiplexedEarly)
            return Judgement(of: rivals.sockets, found: found, setting)
        }
    }

    /// What the kernel's own look-up finds on one processor: for each group a cookie, or nothing.
    private struct Answer: Sendable {
        let processor: Int32
        let cookies: [UInt64?]
    }

    private static func ask(_ groups: [Rivals]) throws(Errno) -> [Answer] {
        try onEachProcessor { processor, diag throws(Errno) in
            var cookies: [UInt64?] = []
            for rivals in groups {
                let found = try diag.receiver(of: rivals.tuple, interface: rivals.interface)
                cookies.append(found?.cookie)
            }
            return Answer(processor: processor, cookies: cookies)
        }
    }

    /// Ends one of them (SOCK_DESTROY): its owner gets ECONNABORTED once. The kernel reaches a
    /// socket only where its look-up finds it, so that is tried on every processor.
    ///
    /// - Throws: EPERM without CAP_NET_ADMIN, ENOENT when it is gone or is found nowhere.
    package static func end(_ victim: SocketRecord) throws(Errno) {
        let ended = try onEachProcessor { _, diag throws(Errno) in
            do throws(Errno) {
                try diag.destroy(victim, .udp)
                return true
            } catch {
                guard error.number == ENOENT else { throw error }
                return false
            }
        }
        guard ended.contains(true) else { throw Errno(ENOENT) }
    }

    /// Runs `body` on every processor that we may run on, on a thread of its own, with a netlink
    /// socket of the calling thread's namespace. Where threads may not be moved it runs once.
    private static func onEachProcessor<Result: Sendable>(
        _ body: @escaping @Sendable (Int32, inout SocketDiag) throws(Errno) -> Result
    ) throws(Errno) -> [Result] {
        do {
            return try Thread.run {
                var diag = try SocketDiag()
                var results: [Result] = []
                for processor in Processors.allowed {
                    // One that was switched off meanwhile handles no packets.
                    guard (try? Processors.stay(on: processor)) != nil else { continue }
                    results.append(try body(processor, &diag))
                }
                return results.isEmpty ? [try body(0, &diag)] : results
            }
        } catch {
            throw error as? Errno ?? Errno(EAGAIN)
        }
    }
}

/// How datagrams for a tuple arrive.
enum Arrival {
    /// The destination is a subnet's broadcast address.
    case broadcast
    /// From this network namespace, over loopback.
    case loopback
    case device

    /// Asks the routing table; nothing is sent.
    init(of tuple: FourTuple) {
        self = .device
        let family = tuple.remote.address.isIPv4 ? AF_INET : AF_INET6
        guard
            let probe = try? OwnedDescriptor({
                socket(family, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            })
        else { return }
        let result = tuple.remote.withSocketAddress(family: family) {
            connect(probe.raw, $0, $1)
        }
        if result != 0 {
            // Without SO_BROADCAST (ip4_datagram_connect).
            if errno == EACCES && family == AF_INET { self = .broadcast }
            return
        }
        // A local address is reached from itself.
        let source = try? Endpoint { getsockname(probe.raw, $0, $1) }
        if tuple.remote.address.isLoopback || source?.address == tuple.remote.address {
            self = .loopback
        }
    }

    /// Whether what arrives may be given to a socket before any look-up (ip_rcv_finish_core), in
    /// the calling thread's namespace. What comes over loopback has its route already, and is not.
    var isDemultiplexedEarly: Bool {
        self == .device
            && ["ip_early_demux", "udp_early_demux"].allSatisfy {
                Proc.system.numericSetting("net/ipv4/\($0)") != 0
            }
    }
}
