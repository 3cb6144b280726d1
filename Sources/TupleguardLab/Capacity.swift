// SPDX-License-Identifier: Apache-2.0
// How far a technique gets with a handful of ports, and how it fails then.

import Connectx
import TupleguardSockets

/// What a technique reached.
package struct CapacityReport: Encodable, Sendable {
    /// Connects that succeeded, to one destination and then to the others as well; given up at
    /// twice the ports for each.
    package internal(set) var openedToOne = 0
    package internal(set) var openedToMany = 0
    /// Different 4-tuples among them, as the kernel tells: what is missing is overshadowed.
    package internal(set) var tuplesToOne = 0
    package internal(set) var tuplesToMany = 0
    /// How the first connect failed that did; nil when none did.
    package internal(set) var errno: String?
    /// The call that failed: "bind", "connect", "look-up", "connectx".
    package internal(set) var failedCall: String?
}

extension Technique {
    /// The port that connection number `index` is to come from: 0 unless the caller has to name
    /// one.
    func port(of index: Int, in setting: Setting) -> UInt16 {
        guard portChoice == .caller else { return 0 }
        return setting.ports.lowerBound + UInt16(index % setting.ports.count)
    }

    /// Opens connections to one destination after the other, each until it fails or has twice the
    /// ports.
    func measureCapacity(_ setting: Setting) throws -> CapacityReport {
        var kit = try Kit()
        let servers = try Servers(ports: setting.destinations.map(\.port))
        var held = HeldSockets()
        var report = CapacityReport()
        for (number, destination) in setting.destinations.enumerated() {
            var failure: CallFailure?
            for index in 0..<2 * setting.ports.count where failure == nil {
                let source = Endpoint(setting.address, port(of: index, in: setting))
                do throws(CallFailure) {
                    held.hold(try open(&kit, Wish(source: source, destination: destination)))
                } catch {
                    failure = error
                }
            }
            if number == 0 {
                report.openedToOne = held.all.count
                report.tuplesToOne = Set(held.tuples).count
                report.errno = failure?.errno.name
                report.failedCall = failure?.call.rawValue
            }
        }
        report.openedToMany = held.all.count
        report.tuplesToMany = Set(held.tuples).count
        _ = consume held
        servers.drain()
        return report
    }

    /// Whether two connections to different destinations can have one source address and port.
    func measureSharing(_ setting: Setting) throws -> Bool {
        let port = setting.ports.lowerBound
        if portChoice == .kernel { try LabNamespace.setPorts(port...port) }
        defer { try? LabNamespace.setPorts(setting.ports) }
        var kit = try Kit()
        let servers = try Servers(ports: setting.destinations.map(\.port))
        var held = HeldSockets()
        let source = Endpoint(setting.address, portChoice == .kernel ? 0 : port)
        for destination in setting.destinations.prefix(2) {
            do throws(CallFailure) {
                held.hold(try open(&kit, Wish(source: source, destination: destination)))
            } catch {
                return false
            }
        }
        let sources = Set(held.tuples.map(\.local))
        _ = consume held
        servers.drain()
        return sources.count == 1
    }
}
