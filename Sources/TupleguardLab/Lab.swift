// SPDX-License-Identifier: Apache-2.0
// The lab: every known technique for outgoing connections, measured on this kernel.

import CTupleguardLinux
import Connectx
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// What a technique came to.
package struct TechniqueReport: Encodable, Sendable {
    package let name: String
    /// "tcp" or "udp"
    package let transport: String
    package let calls: String
    /// Whether two connections can have one source address and port.
    package let sharesSource: Bool
    package let capacity: CapacityReport
    package let contention: ContentionReport
}

/// A row that could not be measured.
package struct LeftOut: Encodable, Sendable {
    package let name: String
    package let why: String

    package init(name: String, why: String) {
        self.name = name
        self.why = why
    }
}

package struct LabReport: Encodable, Sendable {
    /// As uname(2) tells it.
    package let kernel: String
    package let processors: Int
    package let setting = Setting.standard
    /// Whether a guard, or another filter, refuses duplicates to this process already.
    package let isGuarded: Bool
    package internal(set) var techniques: [TechniqueReport] = []
    package internal(set) var observations: [ObservationReport] = []
    package internal(set) var retries: [RetryReport] = []
    package internal(set) var fills: [FillReport] = []
    package internal(set) var costs: [CostReport] = []
    package internal(set) var leftOut: [LeftOut] = []
}

/// How long to measure.
package struct Effort: Sendable {
    /// For each technique's contention.
    package var contention: Duration
    /// For each line of the retry table.
    package var trials: Int
    /// On one address and port, at most, while the cost of a connect is measured.
    package var otherSockets: Int

    /// About a minute in all on two processors.
    package static let normal = Effort(
        contention: .seconds(2), trials: 10_000, otherSockets: 3000)
    /// About ten minutes.
    package static let thorough = Effort(
        contention: .seconds(25), trials: 200_000, otherSockets: 10_000)
}

/// A row of the lab, by its name.
package struct Row: Sendable {
    enum Content: Sendable {
        case technique(Technique)
        case observation(Observation)
        case retry(percent: Int)
        case fill(PortSearch)
        case cost(CostGrowth)
    }

    package let name: String
    /// "tcp", "udp", "unix", "retry", "fill" or "cost": what `--only` may name besides.
    package let group: String
    let content: Content

    /// What must be on the cgroup of this process while the row is measured.
    var hook: RequiredHook? {
        switch content {
        case .technique(let technique): technique.hook
        case .fill(let search): search.hook
        case .cost(let growth): growth.hook
        case .observation, .retry: nil
        }
    }

    /// Descriptors that it takes to measure it, amply: what fails for want of these would be laid
    /// at the door of the technique.
    func descriptors(_ effort: Effort) -> Int {
        let others =
            switch content {
            case .technique(let technique): technique.others
            case .fill: PortSearch.ports.count
            case .cost: effort.otherSockets
            case .observation, .retry: 0
            }
        return 700 + others
    }

    /// How long it takes to measure it, about, on a machine that does nothing else.
    package func expectedSeconds(_ effort: Effort) -> Double {
        switch content {
        case .technique: effort.contention / .seconds(1) + 0.2
        case .observation: 0.5
        case .retry: Double(effort.trials) * 1e-4
        case .fill: 0.3
        // Each socket looks at all those before it when it is bound (udp_lib_lport_inuse2).
        case .cost: 0.2 + Double(effort.otherSockets * effort.otherSockets) * 6e-8
        }
    }

    private init(_ name: String, _ content: Content) {
        self.name = name
        self.group = String(name.prefix { $0 != "-" })
        self.content = content
    }

    /// In the order in which they are measured and shown.
    package static let all: [Row] = {
        var rows = Technique.all.map { Row($0.name, .technique($0)) }
        rows += Observation.all.map { Row($0.name, .observation($0)) }
        rows += RetryTable.percentages.map { Row("retry-\($0)", .retry(percent: $0)) }
        rows += PortSearch.all.map { Row($0.name, .fill($0)) }
        rows += CostGrowth.all.map { Row($0.name, .cost($0)) }
        return rows
    }()
}

/// Measures rows, each in a network namespace of its own.
package struct Laboratory {
    private let effort: Effort
    private let descriptorLimit: Int
    private var report: LabReport

    /// Prepares this process: from here on its main thread is in another network namespace.
    ///
    /// Must be called on the main thread, before the process has another one: without privilege
    /// the namespace takes a user namespace, which only a process with one thread may enter.
    ///
    /// - Throws: `LabNamespaceError`, which says what forbids it.
    private init(_ effort: Effort) throws {
        try LabNamespace.prepare()
        descriptorLimit = raiseDescriptorLimit()
        self.effort = effort
        report = LabReport(
            kernel: KernelVersion.runningRelease, processors: Int(linux_processors()),
            isGuarded: try Self.findOutWhetherGuarded())
    }

    /// Measures rows one after the other; those that cannot be are in the report, with the reason.
    ///
    /// Must be called on the main thread, before the process has another one; from here on that is
    /// in another network namespace.
    ///
    /// - Parameters:
    ///   - keeper: the arguments with which this program calls `LabKeeper.keep`.
    ///   - onEach: called before each row.
    /// - Throws: `LabNamespaceError`, which says what forbids namespaces of the lab's own.
    package static func measure(
        _ rows: [Row], _ effort: Effort, keeper: [String], onEach: (Row) -> Void
    ) throws -> LabReport {
        var hooks: LabHooks?
        var whyNoHooks = ""
        if rows.contains(where: { $0.hook != nil }) {
            do {
                hooks = try LabHooks(keeper: keeper)
            } catch {
                whyNoHooks = "\(error)"
            }
        }
        var laboratory = try Laboratory(effort)
        for row in rows {
            onEach(row)
            guard let hook = row.hook else {
                try laboratory.measure(row)
                continue
            }
            do throws(LabHooks.Refusal) {
                guard hooks != nil else { throw LabHooks.Refusal(why: whyNoHooks) }
                try hooks!.attach(hook)
            } catch {
                laboratory.leaveOut(row, why: error.why)
                continue
            }
            try laboratory.measure(row)
            hooks!.detach()
        }
        return laboratory.report
    }

    /// By trying: a second socket goes for the tuple of a first.
    private static func findOutWhetherGuarded() throws -> Bool {
        let setting = Setting.standard
        try LabNamespace.enterNew(ports: setting.ports)
        var kit = try Kit()
        let wish = Wish(
            source: Endpoint(setting.address, setting.ports.lowerBound),
            destination: setting.destinations[0])
        let first = try Technique.shared(.udp)(&kit, wish)
        defer { _ = first.raw }
        do throws(CallFailure) {
            _ = try Technique.shared(.udp)(&kit, wish)
            return false
        } catch {
            return error.call == .connect
        }
    }

    private mutating func leaveOut(_ row: Row, why: String) {
        report.leftOut.append(LeftOut(name: row.name, why: why))
    }

    /// Measures a row. What it needs on the cgroup has to be there.
    private mutating func measure(_ row: Row) throws {
        let descriptors = row.descriptors(effort)
        guard descriptors <= descriptorLimit else {
            return leaveOut(
                row,
                why:
                    "it takes \(descriptors) descriptors, and this process may have \(descriptorLimit); raise its limit (ulimit -n)"
            )
        }
        try LabNamespace.enterNew(ports: Setting.standard.ports)
        switch row.content {
        case .technique(let technique):
            if let (name, value) = technique.sysctl { try LabNamespace.set(name, value) }
            report.techniques.append(try measure(technique))
        case .observation(let observation):
            report.observations.append(try observation.observe(observation, .standard))
        case .retry(let percent):
            report.retries.append(
                try RetryTable.measure(busyPercent: percent, trials: effort.trials))
        case .fill(let search): report.fills.append(try search.measure())
        case .cost(let growth):
            report.costs.append(try growth.measure(upTo: effort.otherSockets))
        }
    }

    private func measure(_ technique: Technique) throws -> TechniqueReport {
        let setting = Setting.standard
        return TechniqueReport(
            name: technique.name, transport: technique.transport == .tcp ? "tcp" : "udp",
            calls: technique.calls, sharesSource: try technique.measureSharing(setting),
            capacity: try technique.measureCapacity(setting),
            contention: try technique.measureContention(setting, for: effort.contention))
    }
}
