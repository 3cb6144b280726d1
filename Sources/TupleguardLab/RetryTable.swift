// SPDX-License-Identifier: Apache-2.0
// How often all attempts of `tcp-retry` collide, computed and measured.

import Connectx
import Glibc
import TupleguardSockets

package struct RetryReport: Encodable, Sendable {
    /// Of the ports, how many in a hundred have a connection to the destination. All are bound:
    /// while some are not, bind() chooses among those.
    package let busyPercent: Int
    /// That all attempts collide, if each collides with that probability.
    package let computed: Double
    package internal(set) var trials = 0
    /// Trials of which every attempt collided.
    package internal(set) var failed = 0
    package internal(set) var attempts = 0
    /// Attempts that collided.
    package internal(set) var collisions = 0
    /// Trials of which the first attempt collided, the first two, and so on.
    package internal(set) var collidedThrough = [Int](
        repeating: 0, count: Technique.retryAttempts)

    init(busyPercent: Int) {
        self.busyPercent = busyPercent
        computed = allCollide(
            probability: Double(busyPercent) / 100, attempts: Technique.retryAttempts)
    }
}

/// The probability that so many independent attempts all collide.
package func allCollide(probability: Double, attempts: Int) -> Double {
    (0..<attempts).reduce(1) { product, _ in product * probability }
}

enum RetryTable {
    static let percentages = [1, 10, 50]

    /// 400 ports, so that of those among which bind() chooses one in a hundred can be busy; see
    /// `isBusy`.
    private static let setting = Setting(ports: 41_000...41_399, destinationPorts: 7001...7002)

    /// Whether the port at this place in the range is to be busy.
    ///
    /// For a socket with SO_REUSEADDR, bind() to port 0 begins in the lower half of the range and
    /// takes every second port (inet_csk_find_open_port); so what is busy is spread by pairs.
    static func isBusy(_ index: Int, percent: Int) -> Bool {
        index / 2 % (100 / percent) == 0
    }

    static func measure(busyPercent: Int, trials: Int) throws -> RetryReport {
        try LabNamespace.setPorts(setting.ports)
        try LabNamespace.set(Technique.autobindReuse.name, Technique.autobindReuse.value)
        var kit = try Kit()
        let servers = try Servers(ports: setting.destinations.map(\.port))
        var held = HeldSockets()
        for (index, port) in setting.ports.enumerated() {
            let isBusy = isBusy(index, percent: busyPercent)
            let wish = Wish(
                source: Endpoint(setting.address, port),
                destination: setting.destinations[isBusy ? 0 : 1])
            held.hold(try Technique.shared(.tcp)(&kit, wish))
        }
        servers.drain()
        var report = RetryReport(busyPercent: busyPercent)
        let wish = Wish(
            source: Endpoint(setting.address, 0), destination: setting.destinations[0])
        for _ in 0..<trials {
            try report.add(wish, &kit)
            servers.drain()
        }
        _ = consume held
        return report
    }
}

extension RetryReport {
    /// One trial.
    fileprivate mutating func add(_ wish: Wish, _ kit: inout Kit) throws(CallFailure) {
        trials += 1
        for attempt in 0..<Technique.retryAttempts {
            attempts += 1
            if let socket = try Technique.attempt(&kit, wish) {
                reset(socket.release())
                return
            }
            collisions += 1
            collidedThrough[attempt] += 1
        }
        failed += 1
    }
}
