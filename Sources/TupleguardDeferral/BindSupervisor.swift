// SPDX-License-Identifier: Apache-2.0
// Looks at each bind() of a command and of all that it starts, before the kernel does.

import CTupleguardLinux
import CTupleguardSeccomp
import Synchronization
import TupleguardLinux
package import TupleguardSockets

/// A thread that answers calls which a filter holds (`seccomp_hold_binds`): it sets
/// IP_BIND_ADDRESS_NO_PORT on sockets that are bound to port 0, and lets every call go its way.
///
/// It needs to be an ancestor of the processes, or to have CAP_SYS_PTRACE: only then does Yama's
/// usual setting let it have their descriptors (ptrace(2), "ptrace_scope").
package struct BindSupervisor: ~Copyable {
    private let calls: HeldCalls
    private let end: OwnedDescriptor
    private let thread: Thread

    /// - Parameter listener: what `seccomp_hold_binds` has returned to the first process.
    package init(_ listener: consuming OwnedDescriptor, _ deferral: Deferral) throws(Errno) {
        seccomp_answer_synchronously(listener.raw)
        let end = try OwnedDescriptor { eventfd(0, Int32(EFD_CLOEXEC)) }
        let calls = HeldCalls(listener, deferral)
        let stop = end.raw
        thread = try Thread { calls.answerAll(until: stop) }
        self.end = end
        self.calls = calls
    }

    /// Ends it. Calls that wait then, or come later, fail with ENOSYS.
    package consuming func finish() -> Deferral.Counts {
        var one: UInt64 = 1
        write(end.raw, &one, MemoryLayout<UInt64>.size)
        thread.join()
        return calls.counts
    }
}

/// The calls that wait at one listener.
private final class HeldCalls: Sendable {
    private let listener: OwnedDescriptor
    private let deferral: Deferral

    private struct State {
        var counts = Deferral.Counts()
        var recent = RecentSockets()
    }
    private let state = Mutex(State())

    var counts: Deferral.Counts { state.withLock { $0.counts } }

    init(_ listener: consuming OwnedDescriptor, _ deferral: Deferral) {
        self.listener = listener
        self.deferral = deferral
    }

    /// Until `end` can be read, or nobody is left whom the filter holds.
    func answerAll(until end: Int32) {
        while true {
            var waited = [
                pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: end, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&waited, nfds_t(waited.count), -1) >= 0 else { continue }
            if waited[1].revents != 0 || waited[0].revents & Int16(POLLHUP) != 0 { return }
            var call = seccomp_call()
            // It may have been killed since.
            guard seccomp_next_call(listener.raw, &call) == 0 else { continue }
            look(at: call)
            seccomp_continue(listener.raw, call.id)
        }
    }

    private func look(at call: seccomp_call) {
        do throws(Errno) {
            if call.is_bind {
                try lookAtBind(call)
            } else {
                try lookAtName(call)
            }
        } catch {
            // The program's own mistakes are for the kernel to tell it of.
            if error.number == EFAULT || error.number == EBADF || error.number == ENOENT { return }
            state.withLock { $0.counts.unreachable[error, default: 0] += 1 }
        }
    }

    // MARK: - bind()

    private func lookAtBind(_ call: seccomp_call) throws(Errno) {
        let name = try SocketName.read(
            fromThread: call.thread, at: call.address, length: call.length)
        guard let name, name.endpoint.port == 0 else { return }
        let socket = try takeSocket(of: call)
        guard let transport = transport(of: socket.raw), deferral.transports.contains(transport),
            try SocketOption.bindAddressNoPort.get(socket.raw) == 0
        else { return }
        try SocketOption.bindAddressNoPort.set(socket.raw, 1)
        let cookie = try SocketOption.cookie.get(socket.raw)
        state.withLock {
            $0.counts.deferred[transport, default: 0] += 1
            $0.recent.insert(cookie)
        }
    }

    // MARK: - getsockname()

    private func lookAtName(_ call: seccomp_call) throws(Errno) {
        let socket = try takeSocket(of: call)
        guard let transport = transport(of: socket.raw) else { return }
        let cookie = try SocketOption.cookie.get(socket.raw)
        guard state.withLock({ $0.recent.contains(cookie) }) else { return }
        let name = try SocketName { getsockname(socket.raw, $0, $1) }
        guard name.endpoint.port == 0 else {
            // Connected; it is not asked for again.
            state.withLock { $0.recent.remove(cookie) }
            return
        }
        let isGiven = deferral.answer(for: transport) == .port && givePort(socket.raw, name)
        state.withLock {
            if isGiven {
                $0.counts.askedAndGiven += 1
                $0.recent.remove(cookie)
            } else {
                $0.counts.askedAndToldZero += 1
            }
        }
    }

    /// Binds once more, for a port of its own. A socket that has an address and no port may be.
    private func givePort(_ socket: Int32, _ name: SocketName) -> Bool {
        do throws(Errno) {
            try SocketOption.bindAddressNoPort.set(socket, 0)
            if bindAgain(socket, name) { return true }
            // There is none for all destinations; there may be one at connect(). The kernel has
            // taken the address away (__inet_bind).
            try SocketOption.bindAddressNoPort.set(socket, 1)
            _ = bindAgain(socket, name)
        } catch {}
        return false
    }

    private func bindAgain(_ socket: Int32, _ name: SocketName) -> Bool {
        name.endpoint.withSocketAddress(
            family: name.family, scope: name.scope, flowInfo: name.flowInfo
        ) { bind(socket, $0, $1) } == 0
    }

    // MARK: - The caller's socket

    private func takeSocket(of call: seccomp_call) throws(Errno) -> OwnedDescriptor {
        let process = try openProcess(ofThread: call.thread)
        // Only now is it certain that the number has not passed on to another process.
        guard seccomp_is_waiting(listener.raw, call.id) else { throw Errno(ENOENT) }
        return try OwnedDescriptor { seccomp_take_descriptor(process.raw, call.descriptor) }
    }

    private func openProcess(ofThread thread: UInt32) throws(Errno) -> OwnedDescriptor {
        do throws(Errno) {
            return try OwnedDescriptor { seccomp_open_thread(thread) }
        } catch let error where error.number == EINVAL {
            // Threads have no descriptors of their own before 6.9; nearly always they share files.
            let process = Proc.system.process(ofThread: Int32(bitPattern: thread))
            return try OwnedDescriptor {
                seccomp_open_process(process.map(UInt32.init) ?? thread)
            }
        }
    }

    /// TCP or UDP over IP; nil for any other socket, and for what is none.
    private func transport(of socket: Int32) -> Transport? {
        guard let family = try? SocketOption<Int32>(SOL_SOCKET, SO_DOMAIN).get(socket),
            family == AF_INET || family == AF_INET6,
            let type = try? SocketOption.type.get(socket),
            let number = try? SocketOption.transport.get(socket),
            let transport = UInt8(exactly: number).flatMap(Transport.init(rawValue:))
        else { return nil }
        return type == Int32(SOCK_RAW.rawValue) ? nil : transport
    }
}
