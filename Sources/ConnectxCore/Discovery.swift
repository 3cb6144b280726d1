// SPDX-License-Identifier: Apache-2.0
// Finding a port that is free for one destination, in a bounded number of calls.

import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

extension NamespaceView {
    /// A port of one's own, while there are many. Else a few random ports; then, when all are busy,
    /// the kernel lists the sockets to this destination, and the port is chosen from what is left.
    /// The list serves later calls too.
    mutating func discover(_ call: UDPCall, now: UInt64, _ search: inout Search)
        throws(ConnectError) -> Technique
    {
        let range = ports.range(of: call.socket)
        if ports.isRoomy(range), let technique = try takeOwnPort(call, &search) {
            return technique
        }
        if let technique = try chooseListed(call, range, now: now, &search) { return technique }
        if let technique = try chooseRandom(call, range, &search) { return technique }
        for _ in 0..<Search.listings {
            let doubts = search.doubts
            let hadMapped = listsMapped
            if try list(call, range, &search),
                let technique = try chooseListed(call, range, now: coarseTime(), &search)
            {
                return technique
            }
            if listsMapped != hadMapped { continue }
            // What others were at may have come free; who does not share goes on like that.
            if search.doubts == doubts { break }
            linux_pause(Search.pauseNanoseconds)
        }
        throw exhausted(call)
    }

    /// A port that no other socket has, chosen by the kernel, and shared from the moment that the
    /// socket is connected.
    ///
    /// While SO_REUSEADDR is off the kernel gives a port only if nobody has it, and then to nobody
    /// else: it looks and enters the socket into its table in one step (udp_lib_get_port). So the
    /// tuple is no one else's, without lock and look. Where ports are scarce they are left to those
    /// who cannot share (`isRoomy`): to plain connect().
    ///
    /// - Returns: nil when there was none after all, or a guard would not have it.
    private mutating func takeOwnPort(_ call: UDPCall, _ search: inout Search) throws(ConnectError)
        -> Technique?
    {
        do throws(Errno) {
            try call.socket.prepareToOwn()
        } catch {
            throw call.error(.badDescriptor, error.number)
        }
        let name = Endpoint(call.local, 0)
        let error = call.socket.bindName(name, scope: call.destination.scope)
        guard error == 0 else {
            if error == EADDRINUSE { return nil }
            throw failure(call, 0, error, .bind)
        }
        let outcome = finish(call, .ownPort)
        if case .connected(let technique) = outcome {
            // Of a socket that was just connected this cannot fail.
            try? call.socket.share(true)
            ports.countOwnPort()
            return technique
        }
        call.socket.disconnect()
        search.hasAddressOnly = true
        if case .failed(let error, let step) = outcome { throw failure(call, 0, error, step) }
        return nil
    }

    /// A few random ports, and more for as long as a listing would take: with more destinations in
    /// turn than there are lists, each call would make one else.
    private mutating func chooseRandom(
        _ call: UDPCall, _ range: ClosedRange<UInt16>, _ search: inout Search
    ) throws(ConnectError) -> Technique? {
        let start = monotonicTime()
        var probes = 0
        repeat {
            probes += 1
            let port = try randomPort(call, range)
            guard !ports.isReserved(port) else { continue }
            if let technique = try choose(call, port, &search) { return technique }
        } while probes < Search.randomProbes
            || probes < range.count && monotonicTime() &- start < listingNanoseconds
        return nil
    }

    private mutating func exhausted(_ call: UDPCall) -> ConnectError {
        notices.send(.exhausted, .udp, call.tuple(0), now: coarseTime())
        return call.error(.exhausted, EAGAIN)
    }

    /// Tries the ports on the list for this purpose.
    ///
    /// IPv4's listing lacks the sockets with v4-mapped addresses, and a second one for them, which
    /// are rare, would take as long. When many ports of the list are busy after all, both are
    /// wanted.
    private mutating func chooseListed(
        _ call: UDPCall, _ range: ClosedRange<UInt16>, now: UInt64, _ search: inout Search
    ) throws(ConnectError) -> Technique? {
        var misses = 0
        while let port = try listed(call, range, now: now) {
            if let technique = try choose(call, port, &search) { return technique }
            misses += 1
            if call.local.isIPv4 && !listsMapped && misses == Search.missLimit {
                listsMapped = true
                break
            }
        }
        return nil
    }

    private mutating func choose(_ call: UDPCall, _ port: UInt16, _ search: inout Search)
        throws(ConnectError) -> Technique?
    {
        search.attempts += 1
        guard search.attempts <= Search.attemptLimit else { throw exhausted(call) }
        switch attempt(call, port, &search) {
        case .connected(let technique): return technique
        case .taken: break
        case .waitedOn: search.doubts += 1
        case .unshared:
            // Found by a scout it is for good, as far as we can tell.
            if scouting == 0 { search.doubts += 1 }
            scouting = Search.scoutingAfterUnshared
        case .lost:
            search.doubts += 1
            notices.send(.lostRace, .udp, call.tuple(port), now: coarseTime())
        case .refused(let error):
            search.doubts += 1
            search.refusals += 1
            // A guard refuses tuples; a filter refuses them all.
            guard search.refusals < Search.refusalLimit, isRefusedByGuard(error) else {
                throw failure(call, port, error, .connect)
            }
        case .failed(EACCES, .bind): break  // a port below ip_unprivileged_port_start
        case .failed(let error, let step): throw failure(call, port, error, step)
        }
        return nil
    }

    private mutating func randomPort(_ call: UDPCall, _ range: ClosedRange<UInt16>)
        throws(ConnectError) -> UInt16
    {
        do throws(Errno) {
            return range.lowerBound + UInt16(try random.next(below: UInt32(range.count)))
        } catch {
            throw call.error(.outOfResources, error.number)
        }
    }

    /// A port from the list for this purpose that may still be chosen.
    private mutating func listed(_ call: UDPCall, _ range: ClosedRange<UInt16>, now: UInt64)
        throws(ConnectError) -> UInt16?
    {
        while let port = free.take(
            for: call.purpose, from: try randomPort(call, range), now: now)
        {
            if range.contains(port) && !ports.isReserved(port) { return port }
        }
        return nil
    }

    /// Asks which ports are free for this destination. Returns whether there are any.
    private mutating func list(
        _ call: UDPCall, _ range: ClosedRange<UInt16>, _ search: inout Search
    ) throws(ConnectError) -> Bool {
        let start = monotonicTime()
        defer { listingNanoseconds = monotonicTime() &- start }
        var set = PortSet()
        for port in range where !ports.isReserved(port) { set.insert(port) }
        do throws(Errno) {
            if call.local.isIPv4 { try removeBusy(call, AF_INET, from: &set, &search) }
            // Sockets with v4-mapped addresses are of the other family.
            if !call.local.isIPv4 || listsMapped {
                try removeBusy(call, AF_INET6, from: &set, &search)
            }
        } catch {
            throw call.error(.outOfResources, error.number)
        }
        let isAny = set.next(from: range.lowerBound) != nil
        free.keep(set, for: call.purpose, now: coarseTime())
        return isAny
    }

    /// Takes off the ports of sockets that have this destination, or none.
    private mutating func removeBusy(
        _ call: UDPCall, _ family: Int32, from set: inout PortSet, _ search: inout Search
    ) throws(Errno) {
        var filter = SocketDiag.Filter()
        filter.remoteOrUnconnected = call.destination.endpoint
        let buffer = replyBuffer()
        try diag!.list(.udp, family: family, filter: filter, buffer: buffer) { record in
            let local = record.tuple.local.address
            guard local == call.local || local.isAny,
                record.interface == 0 || call.device == 0 || record.interface == call.device
            else { return }
            // Servers wait on a port of their own; who is about to connect waits at our address.
            if !record.isConnected && local == call.local && set.contains(record.tuple.local.port) {
                search.doubts += 1
            }
            set.remove(record.tuple.local.port)
        }
    }
}
