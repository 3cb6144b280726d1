// SPDX-License-Identifier: Apache-2.0
// Who of several sockets with one tuple receives, judged from what the kernel's look-up finds.

package import TupleguardLinux
package import TupleguardRecords
package import TupleguardSocketDiag

/// A socket that receives, or may.
package struct Contender: Sendable {
    package let socket: SocketRecord
    /// Where the kernel's look-up finds it; none where it is found nowhere and may receive all the
    /// same.
    package let processors: [Int32]

    package init(socket: SocketRecord, processors: [Int32]) {
        self.socket = socket
        self.processors = processors
    }
}

/// Who receives, and how sure that is.
///
/// Two things decide. The look-up (__udp4_lib_lookup), which SOCK_DIAG repeats on the processor
/// that it runs on: up to Linux 6.12 it takes the socket that came to the address and port last,
/// but prefers one that received on the same processor before; from 6.13 on it takes the one that
/// was connected last. And before it, for what comes by a device, early demultiplexing: it takes
/// the first socket of the address and port, the one that came last, if that has the tuple.
package struct Judgement: Sendable {
    /// Those that may receive; where there is no doubt, the one that does.
    package let contenders: [Contender]
    /// Why it is not certain; nil when it is.
    package let doubt: Doubt?
    private let askedProcessors: Int
    private let onlineProcessors: Int

    package var receiver: SocketRecord? { doubt == nil ? contenders.first?.socket : nil }

    /// What it rests on: "the same answer on all 4 processors".
    package var basis: String {
        let asked = amount(askedProcessors, "processor")
        return switch doubt {
        case nil: "the kernel's look-up, which finds the same socket on each of \(asked)"
        case .processor: "the kernel's look-up, which finds different sockets on \(asked)"
        case .arrival:
            "the kernel's look-up on \(asked), which what comes by a device need not reach"
        case .unaskedProcessors:
            "the kernel's look-up on \(asked) of \(amount(onlineProcessors, "processor"))"
        }
    }

    /// What the answers have to be read by.
    package struct Setting: Sendable {
        /// Nil for one whose release cannot be read.
        package let kernel: KernelVersion?
        /// That are online.
        package let processors: Int
        package let isDemultiplexedEarly: Bool

        package init(kernel: KernelVersion?, processors: Int, isDemultiplexedEarly: Bool) {
            self.kernel = kernel
            self.processors = processors
            self.isDemultiplexedEarly = isDemultiplexedEarly
        }

        /// Whether the look-up has a hash of whole tuples and no eye for processors.
        var hasTupleHash: Bool { kernel.map { $0 >= KernelVersion(6, 13) } ?? false }

        /// Until these versions a socket that is disconnected keeps its place in the hash.
        var forgetsReconnections: Bool {
            guard let kernel else { return true }
            return kernel < KernelVersion(6, 18, 17)
                || kernel >= KernelVersion(6, 19) && kernel < KernelVersion(6, 19, 7)
        }
    }

    /// - Parameters:
    ///   - sockets: as the kernel lists them: of one family, who came to the port last comes first.
    ///   - found: by processor, the cookie of the socket that the look-up finds.
    /// - Returns: nil when none of them is found.
    package init?(
        of sockets: [SocketRecord], found: [(processor: Int32, cookie: UInt64?)],
        _ setting: Setting
    ) {
        var winners: [Contender] = []
        for socket in sockets {
            let places = found.filter { $0.cookie == socket.cookie }.map(\.processor)
            if !places.isEmpty { winners.append(Contender(socket: socket, processors: places)) }
        }
        guard let first = winners.first else { return nil }
        askedProcessors = found.count
        onlineProcessors = setting.processors
        let isAskedEverywhere = setting.hasTupleHash || found.count >= setting.processors
        let isArrivalSafe =
            !setting.isDemultiplexedEarly
            || winners.count == 1 && Self.cameLast(first, sockets, found.count, setting)
        if winners.count > 1 {
            doubt = .processor
        } else if !isArrivalSafe {
            doubt = .arrival
        } else {
            doubt = isAskedEverywhere ? nil : .unaskedProcessors
        }
        // Who is found somewhere comes first; without more to go by, any other may be the one.
        let isClosed = isAskedEverywhere && !setting.isDemultiplexedEarly
        let others = sockets.filter { socket in
            !winners.contains { $0.socket.cookie == socket.cookie }
        }
        contenders =
            doubt == nil || isClosed
            ? winners : winners + others.map { Contender(socket: $0, processors: []) }
    }

    /// Whether the socket that the look-up finds is known to be the one that came to the address
    /// and port last, so that early demultiplexing takes no other.
    private static func cameLast(
        _ winner: Contender, _ sockets: [SocketRecord], _ asked: Int, _ setting: Setting
    ) -> Bool {
        // Else the look-up scores by these first, and the kernel lists each family by itself.
        let isUniform =
            Set(sockets.map(\.family)).count == 1 && Set(sockets.map(\.interface)).count == 1
        guard isUniform else { return false }
        if setting.hasTupleHash {
            // Last to the port and last to connect: whichever put it into its place, it is first.
            return winner.socket.cookie == sockets.first?.cookie && !setting.forgetsReconnections
        }
        // A socket is preferred on one processor only, the one that it received on last. Who is
        // found on another, too, is found there for its place.
        return asked > 1
    }
}
