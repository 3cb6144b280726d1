// SPDX-License-Identifier: Apache-2.0
// What a network namespace lets its sockets choose from: the ephemeral ports, and TIME_WAIT.

package import TupleguardSockets

/// The settings of one network namespace that decide how many connections fit (ip-sysctl).
///
/// For people, and read once. The library reads the same two files for itself, at every connect:
/// from descriptors that it keeps, without memory of the heap, in Embedded Swift.
package struct PortSettings: Hashable, Sendable {
    /// net.ipv4.ip_local_port_range; it counts for IPv6 too.
    package var range: ClosedRange<UInt16> = 32_768...60_999
    /// net.ipv4.ip_local_reserved_ports as the kernel writes it, such as "8080,9000-9100"; most
    /// often empty.
    package private(set) var reservedList = ""
    /// What of it lies in the range: ascending, disjoint.
    package private(set) var reserved: [ClosedRange<UInt16>] = []
    /// net.ipv4.tcp_tw_reuse: 0 off, 1 on, 2 for loopback only. Nil where there is none.
    package var timeWaitReuse: Int?
    /// net.ipv4.tcp_timestamps, without which nothing in TIME_WAIT is reused.
    package var hasTimestamps = true

    package init() {}

    /// Those of the calling thread's namespace: sysctl(5) files show nothing else. What cannot be
    /// read is taken to be the default.
    package static func current(_ proc: Proc = .system) -> PortSettings {
        var settings = PortSettings()
        if let range = proc.setting("net/ipv4/ip_local_port_range").flatMap(parseRange) {
            settings.range = range
        }
        if let list = proc.setting("net/ipv4/ip_local_reserved_ports") { settings.reserve(list) }
        settings.timeWaitReuse = proc.numericSetting("net/ipv4/tcp_tw_reuse")
        settings.hasTimestamps = proc.numericSetting("net/ipv4/tcp_timestamps") != 0
        return settings
    }

    /// "32768\t60999"; nil for anything else than a range.
    static func parseRange(_ text: String) -> ClosedRange<UInt16>? {
        let numbers = text.split(whereSeparator: \.isWhitespace).map { UInt16($0) }
        guard numbers.count == 2, let first = numbers[0], let last = numbers[1], first <= last
        else { return nil }
        return first...last
    }

    /// "8080,9148-9150"
    package mutating func reserve(_ list: String) {
        reservedList = list
        let all = list.split { $0 == "," || $0.isWhitespace }.compactMap { part in
            let ends = part.split(separator: "-").compactMap { UInt16($0) }
            guard let first = ends.first, let last = ends.last, first <= last else {
                return ClosedRange<UInt16>?.none
            }
            return first...last
        }
        reserved = all.filter { $0.overlaps(range) }.map { $0.clamped(to: range) }
            .sorted { $0.lowerBound < $1.lowerBound }
            .reduce(into: []) { disjoint, next in
                // The kernel writes none that overlap; a /proc that a container is given may.
                guard let last = disjoint.last, last.overlaps(next) else {
                    disjoint.append(next)
                    return
                }
                disjoint[disjoint.count - 1] =
                    last.lowerBound...max(last.upperBound, next.upperBound)
            }
    }

    /// The same where ports are chosen from another range, whatever is reserved: see `--ports`.
    package func confined(to range: ClosedRange<UInt16>) -> PortSettings {
        var settings = self
        settings.range = range
        settings.reserved = []
        return settings
    }

    /// Whether all of `ports` that lie in the range are reserved.
    package func reserves(_ ports: ClosedRange<UInt16>) -> Bool {
        guard ports.overlaps(range) else { return true }
        return ports.clamped(to: range).allSatisfy { port in
            reserved.contains { $0.contains(port) }
        }
    }

    /// How many ports there are to choose from.
    package var possible: Int { range.count - reservedCount }

    package var reservedCount: Int { reserved.reduce(0) { $0 + $1.count } }

    /// In how many pieces the reserved ports leave the range.
    package var pieces: Int {
        var pieces = 0
        var next = Int(range.lowerBound)
        for hole in reserved {
            if Int(hole.lowerBound) > next { pieces += 1 }
            next = max(next, Int(hole.upperBound) + 1)
        }
        return next <= Int(range.upperBound) ? pieces + 1 : pieces
    }

    /// Whether a new connection to `address` may take the port of one in TIME_WAIT, which has to
    /// be a second old then (tcp_twsk_unique).
    package func reusesTimeWait(to address: IPAddress) -> Bool {
        guard hasTimestamps else { return false }
        return timeWaitReuse == 1 || timeWaitReuse == 2 && address.isLoopback
    }
}

extension NetworkNamespace {
    /// Of every network namespace that can be entered, as they are now.
    package static func portSettings() -> [(namespace: NetworkNamespace, settings: PortSettings)] {
        find().namespaces.compactMap { namespace in
            // One that went meanwhile has no ports any more.
            (try? namespace.inside { PortSettings.current() }).map { (namespace, $0) }
        }
    }
}

extension IPAddress {
    /// 127.0.0.0/8 or ::1
    package var isLoopback: Bool {
        isIPv4 ? networkWords.3.bigEndian >> 24 == 127 : self == .loopback6
    }
}
