// SPDX-License-Identifier: Apache-2.0
// What a connect() costs while the sockets on its address and port grow in number.

import Connectx
import TupleguardLinux
import TupleguardSockets

package struct CostReport: Encodable, Sendable {
    package struct Point: Encodable, Sendable {
        /// Other sockets on the source address and port, each with a destination of its own.
        package let otherSockets: Int
        /// The median of connect() calls that succeeded.
        package let nanoseconds: Int
    }

    package let name: String
    package let calls: String
    package internal(set) var points: [Point] = []
}

/// What is on the cgroup while connects are timed.
struct CostGrowth: Sendable {
    let name: String
    let calls: String
    let hook: RequiredHook?

    static let all = [
        CostGrowth(name: "cost-bare", calls: "connect(); no BPF", hook: nil),
        CostGrowth(
            name: "cost-look-up", calls: "connect(); a BPF hook looks the tuple up", hook: .lookUp),
        CostGrowth(name: "cost-guard", calls: "connect(); under the guard", hook: .guard),
    ]

    /// Three in each power of ten, evenly spread on a logarithmic axis.
    private static let counts = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
    private static let connects = 201

    func measure(upTo most: Int) throws -> CostReport {
        var report = CostReport(name: name, calls: calls)
        var kit = try Kit()
        let source = Endpoint(Setting.standard.address, Setting.standard.ports.lowerBound)
        var crowd = HeldSockets()
        for count in Self.counts where count <= most {
            try crowd.grow(to: count, on: source, &kit)
            report.points.append(
                .init(otherSockets: count, nanoseconds: try Self.median(from: source)))
        }
        _ = consume crowd
        return report
    }

    private static func median(from source: Endpoint) throws -> Int {
        var times: [UInt64] = []
        for number in 0..<connects {
            let socket = try NewSocket(.udp)
            try socket.share(true)
            try socket.bind(source)
            // Nobody else's: refused is another matter, and takes another time.
            let destination = Endpoint(IPAddress(v4: 127, 0, 0, 2), UInt16(1 + number))
            let start = KernelClock.monotonic
            try socket.connect(destination)
            times.append(KernelClock.monotonic - start)
        }
        return Int(times.sorted()[connects / 2])
    }
}
