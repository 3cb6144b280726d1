// SPDX-License-Identifier: Apache-2.0
// Sockets of one protocol, added up while the kernel tells them.

import TupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// Adds sockets up. Each takes 16 bytes, each pair of address and destination about 100.
struct TransportTally {
    private static let sourceLimit = 1000
    private static let busiest = 10
    private static let noDestination = UInt32.max

    private struct SourceCount {
        let address: IPAddress
        var ports = PortBits()
        var sockets = 0
        var timeWait = 0
    }

    private struct DestinationCount {
        let pair: TransportSurvey.Pair
        var used = 0
        var timeWait = 0
        var freshTimeWait = 0
        /// Ports that sockets to it have from bind().
        var locks = 0
    }

    private struct Member {
        let inode: UInt32
        let destination: UInt32
        let source: UInt16
        let port: UInt16
        let bindsWithoutPort: Bool
    }

    private let transport: Transport
    private let settings: PortSettings
    /// Whether the guard chooses these ports: it lets every destination share them.
    private let isGuarded: Bool
    /// The ports that are chosen from.
    private let ephemeral: PortBits
    private var listening = PortBits()
    /// Ephemeral ports of TCP sockets that are bound and not connected. connect() passes over them.
    private var bound = PortBits()
    /// Those that connected sockets have from bind(): see `TransportSurvey.SolePort`.
    private var locks = PortBits()
    private var survey = TransportSurvey()
    private var sourceIndex: [IPAddress: Int] = [:]
    private var sources: [SourceCount] = []
    private var destinationIndex: [TransportSurvey.Pair: Int] = [:]
    private var destinations: [DestinationCount] = []
    private var members: [Member] = []

    private static let timeWaitState: UInt8 = 6
    private static let listenState: UInt8 = 10
    /// Milliseconds: TIME_WAIT takes a minute (TCP_TIMEWAIT_LEN), and may be reused after a second.
    private static let reusableTimeWait = 59_000

    init(_ transport: Transport, _ settings: PortSettings, isGuarded: Bool) {
        self.transport = transport
        self.isGuarded = isGuarded
        self.settings = settings
        var ephemeral = PortBits()
        for port in settings.range { ephemeral.insert(port) }
        for hole in settings.reserved { for port in hole { ephemeral.remove(port) } }
        self.ephemeral = ephemeral
    }

    /// A port that connections come in on: they take none of the ephemeral ones.
    mutating func addListener(_ record: SocketRecord) {
        let port = record.tuple.local.port
        listening.insert(port)
        if ephemeral.contains(port) { bound.insert(port) }
    }

    mutating func add(_ record: SocketRecord) {
        let isTimeWait = transport == .tcp && record.state == Self.timeWaitState
        let local = record.tuple.local
        guard ephemeral.contains(local.port), record.state != Self.listenState,
            transport == .udp || !listening.contains(local.port)
        else { return }
        guard let source = index(ofSource: local.address) else { return }
        sources[source].ports.insert(local.port)
        sources[source].sockets += 1
        if isTimeWait { sources[source].timeWait += 1 }
        var destination = Self.noDestination
        if record.tuple.remote.port != 0 {
            let index = index(of: .init(source: local.address, remote: record.tuple.remote))
            destinations[index].used += 1
            if isTimeWait { destinations[index].timeWait += 1 }
            if isTimeWait && record.expires > Self.reusableTimeWait {
                destinations[index].freshTimeWait += 1
            }
            destination = UInt32(index)
        } else if transport == .tcp {
            bound.insert(local.port)
        }
        guard record.inode != 0 else { return }
        members.append(
            Member(
                inode: record.inode, destination: destination, source: UInt16(source),
                port: local.port, bindsWithoutPort: record.bindsAddressWithoutPort))
    }

    private mutating func index(ofSource address: IPAddress) -> Int? {
        if let index = sourceIndex[address] { return index }
        guard sources.count < Self.sourceLimit else {
            survey.unlistedSources += 1
            return nil
        }
        sources.append(SourceCount(address: address))
        sourceIndex[address] = sources.count - 1
        return sources.count - 1
    }

    private mutating func index(of pair: TransportSurvey.Pair) -> Int {
        if let index = destinationIndex[pair] { return index }
        destinations.append(DestinationCount(pair: pair))
        destinationIndex[pair] = destinations.count - 1
        return destinations.count - 1
    }

    // MARK: - The sum

    consuming func finish() -> TransportSurvey {
        let everywhere = sources.first { $0.address.isUnspecified }?.ports ?? PortBits()
        survey.sources = sources.map { source in
            .init(
                address: source.address, ports: source.ports.count(with: everywhere),
                sharedPorts: source.ports.sharedCount, sockets: source.sockets,
                timeWait: source.timeWait)
        }.sorted { $0.ports > $1.ports }
        switch transport {
        case .udp:
            survey.inodes = members.filter {
                !sources[Int($0.source)].ports.isShared($0.port)
            }.map(\.inode)
        case .tcp: if !isGuarded { findSolePorts() }
        }
        let sorted = destinations.indices.sorted { destinations[$0].used > destinations[$1].used }
        survey.destinations = busiestDestinations(sorted.prefix(Self.busiest))
        let others = sorted.dropFirst(Self.busiest)
        survey.hasMoreDestinations = !others.isEmpty
        survey.mostUsedOfOthers = others.first.map { destinations[$0].used } ?? 0
        return survey
    }

    private func busiestDestinations(
        _ busiest: ArraySlice<Int>
    ) -> [TransportSurvey.Destination] {
        var inodes: [UInt32: [UInt32]] = [:]
        var ports: [UInt32: PortBits] = [:]
        let isBusy = Set(busiest.map { UInt32($0) })
        for member in members where isBusy.contains(member.destination) {
            inodes[member.destination, default: []].append(member.inode)
            if transport == .udp { ports[member.destination, default: .init()].insert(member.port) }
        }
        let held = bound.count(with: locks)
        return busiest.map { index in
            let count = destinations[index]
            return .init(
                // Overshadowed sockets have a port together.
                pair: count.pair, used: ports[UInt32(index)]?.count ?? count.used,
                timeWait: count.timeWait, freshTimeWait: count.freshTimeWait,
                locked: max(0, held - count.locks), inodes: inodes[UInt32(index)] ?? [])
        }
    }

    /// A destination that has half of the ports or more gets odd ones from connect() too, so its
    /// sockets tell nothing; nor is anything lost there by a port that serves one destination. The
    /// same goes where even ports cannot be had.
    private mutating func findSolePorts() {
        let half = settings.possible / 2
        let odd = sources.map { $0.ports.oddCount(from: settings.range.lowerBound) }.max() ?? 0
        survey.oddPortsAreScarce = odd * 10 >= half * 9
        let evenBound = bound.count - bound.oddCount(from: settings.range.lowerBound)
        for member in members where !member.bindsWithoutPort {
            let (source, destination) = (Int(member.source), Int(member.destination))
            guard member.destination != Self.noDestination,
                destinations[destination].used + evenBound < half,
                !sources[source].ports.isShared(member.port)
            else { continue }
            let isOdd = (member.port ^ settings.range.lowerBound) & 1 == 1
            survey.solePorts.append(
                .init(inode: member.inode, source: sources[source].address, isOdd: isOdd))
            if isOdd {
                locks.insert(member.port)
                destinations[destination].locks += 1
            }
        }
    }
}
