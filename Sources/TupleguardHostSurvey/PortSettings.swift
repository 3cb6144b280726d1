// SPDX-License-Identifier: Apache-2.0
// What a network namespace lets its sockets choose from: the ephemeral ports, and TIME_WAIT.
import TupleguardLinux
package import TupleguardSockets

/// The settings of one network namespace that decide how many connections fit (ip-sysctl).
package struct PortSettings: Hashable, Sendable {
    /// net.ipv4.ip_local_port_range; it counts for IPv6 too.
    package var range: ClosedRange<UInt16> = 32_768...60_999
    /// net.ipv4.ip_local_reserved_ports, as far as it lies in the range: ascending, disjoint.
    package var reserved: [ClosedRange<UInt16>] = []
    /// net.ipv4.tcp_tw_reuse: 0 off, 1 on, 2 for loopback only. Nil where there is none.
    package var timeWaitReuse: Int?
    /// net.ipv4.tcp_timestamps, without which nothing in TIME_WAIT is reused.
    package var hasTimestamps = true

    package init() {}

    /// Those of the calling thread's namespace. What cannot be read is taken to be the default.
    static func current() -> PortSettings {
        var settings = PortSettings()
        func number(_ name: String) -> Int? {
            TupleguardLinux.contents(of: "/proc/sys/net/ipv4/\(name)").flatMap {
                Int($0.filter { !$0.isWhitespace })
            }
        }
        if let range = contents(of: "/proc/sys/net/ipv4/ip_local_port_range").flatMap(
            parsePortRange)
        {
            settings.range = range
        }
        if let list = contents(of: "/proc/sys/net/ipv4/ip_local_reserved_ports") {
            settings.reserve(list)
        }
        settings.timeWaitReuse = number("tcp_tw_reuse")
        settings.hasTimestamps = number("tcp_timestamps") != 0
        return settings
    }

    /// "8080,9148-9150", as far as it is in the range.
    mutating func reserve(_ list: String) {
        let all = list.split { $0 == "," || $0.isWhitespace }.compactMap { part in
            let ends = part.split(separator: "-").compactMap { UInt16($0) }
            guard let first = ends.first, let last = ends.last, first <= last else {
                return ClosedRange<UInt16>?.none
            }
            return first...last
        }
        reserved = all.filter { $0.overlaps(range) }.map { $0.clamped(to: range) }
            .sorted { $0.lowerBound < $1.lowerBound }
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

    package func mayChoose(_ port: UInt16) -> Bool {
        range.contains(port) && !reserved.contains { $0.contains(port) }
    }

    /// Whether a new connection to `address` may take the port of one in TIME_WAIT, which has to
    /// be a second old then (tcp_twsk_unique).
    package func reusesTimeWait(to address: IPAddress) -> Bool {
        guard hasTimestamps else { return false }
        return timeWaitReuse == 1 || timeWaitReuse == 2 && address.isLoopback
    }
}

extension IPAddress {
    /// 127.0.0.0/8 or ::1
    package var isLoopback: Bool {
        isIPv4 ? networkWords.3.bigEndian >> 24 == 127 : self == .loopback6
    }
}
