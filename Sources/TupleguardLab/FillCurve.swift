// SPDX-License-Identifier: Apache-2.0
// How a range of ports fills up for one destination: what the last ports cost, in time and probes.

import Connectx
import Glibc
import TupleguardLinux
import TupleguardSockets

package struct FillReport: Encodable, Sendable {
    package struct Point: Encodable, Sendable {
        /// Ports that no connection to the destination has yet.
        package let free: Int
        /// Since the first connection was begun.
        package let microseconds: Int
        /// Ports that were looked at so far; nil where this process cannot count them.
        package let probes: Int?
    }

    package let name: String
    package let calls: String
    package let ports: Int
    /// From all ports free to none, if it got so far.
    package internal(set) var points: [Point] = []
    /// How a connection failed before all ports were used; nil when all were.
    package internal(set) var errno: String?
}

/// A way to find the port of the next connection.
struct PortSearch: Sendable {
    let name: String
    let calls: String
    var hook: RequiredHook?
    /// Whether it adds to the probes.
    var countsProbes = true
    let open:
        @Sendable (inout Kit, ClosedRange<UInt16>, Endpoint, _ probes: inout Int)
            throws(CallFailure) -> OwnedDescriptor

    static let all = [
        PortSearch(
            name: "fill-random", calls: "a port at random, look-up, until one is free; udp-barrier",
            open: { kit, ports, destination, probes throws(CallFailure) in
                while true {
                    let port = UInt16.random(in: ports)
                    probes += 1
                    if let socket = try take(port, destination, &kit) { return socket }
                }
            }),
        PortSearch(
            name: "fill-in-turn",
            calls: "from a port at random one after the other, look-up; udp-barrier",
            open: { kit, ports, destination, probes throws(CallFailure) in
                let start = Int.random(in: 0..<ports.count)
                for offset in 0..<ports.count {
                    let port = ports.lowerBound + UInt16((start + offset) % ports.count)
                    probes += 1
                    if let socket = try take(port, destination, &kit) { return socket }
                }
                throw CallFailure(.lookUp, EADDRINUSE)
            }),
        PortSearch(
            name: "fill-connectx", calls: "connectx()", countsProbes: false,
            open: { kit, _, destination, _ throws(CallFailure) in
                try Technique.connectx(.udp)(
                    &kit, Wish(source: Endpoint(destination.address, 0), destination: destination))
            }),
        PortSearch(
            name: "fill-guard", calls: "connect(); under the guard, with --discover all",
            hook: .portDiscovery, countsProbes: false,
            open: { kit, _, destination, _ throws(CallFailure) in
                try Technique.plain(
                    &kit, Wish(source: Endpoint(destination.address, 0), destination: destination))
            }),
    ]

    /// A connection from this port; nil when the kernel has one.
    private static func take(_ port: UInt16, _ destination: Endpoint, _ kit: inout Kit)
        throws(CallFailure) -> OwnedDescriptor?
    {
        let wish = Wish(source: Endpoint(destination.address, port), destination: destination)
        do throws(Errno) {
            let tuple = FourTuple(local: wish.source, remote: wish.destination)
            if try kit.diag.receiver(of: tuple) != nil { return nil }
        } catch {
            throw CallFailure(.lookUp, error.number)
        }
        return try Technique.barred(&kit, wish)
    }

    static let ports: ClosedRange<UInt16> = 41_000...41_999
    private static let destination = Endpoint(IPAddress(v4: 127, 0, 0, 1), 7001)
    /// The last ports are told one by one: there the curves part.
    private static let pace = 20

    func measure() throws -> FillReport {
        try LabNamespace.setPorts(Self.ports)
        var report = FillReport(name: name, calls: calls, ports: Self.ports.count)
        var kit = try Kit()
        var held = HeldSockets()
        var probes = 0
        let start = KernelClock.monotonic
        for free in stride(from: report.ports, through: 0, by: -1) {
            if free % Self.pace == 0 || free < Self.pace {
                report.points.append(
                    .init(
                        free: free, microseconds: Int((KernelClock.monotonic - start) / 1000),
                        probes: countsProbes ? probes : nil))
            }
            if free == 0 { break }
            do throws(CallFailure) {
                held.hold(try open(&kit, Self.ports, Self.destination, &probes))
            } catch {
                report.errno = error.errno.name
                break
            }
        }
        _ = consume held
        return report
    }
}
