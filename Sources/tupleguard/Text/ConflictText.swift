// SPDX-License-Identifier: Apache-2.0
// What is known of a conflict, as a block of lines that any terminal has room for.

import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords

/// A conflict as one of the sources has it.
enum KnownConflict: Encodable {
    case `guard`(Conflict<GuardEvent>)
    case connectx(Conflict<ConnectxEvent>)
    case scan(ScanEvent)

    /// Of all sources, newest first.
    static func all(
        _ guarded: [Conflict<GuardEvent>], _ findings: AgentFindings?,
        cgroupPath: (UInt64) -> String?
    ) -> [KnownConflict] {
        let conflicts =
            guarded.map { KnownConflict.guard($0.namingCgroups(cgroupPath)) }
            + (findings?.conflicts ?? []).map { .connectx($0) }
            + (findings?.scan?.shadows ?? []).map { .scan($0) }
        return conflicts.sorted { $0.time > $1.time }
    }

    /// When it last happened.
    var time: Timestamp {
        switch self {
        case .guard(let conflict): conflict.last.time
        case .connectx(let conflict): conflict.last.time
        case .scan(let event): event.time
        }
    }

    /// How often it happened, as far as anybody counted.
    var count: UInt64 {
        switch self {
        case .guard(let conflict): conflict.count
        case .connectx(let conflict): conflict.count
        case .scan: 1
        }
    }

    /// Who and what, in one line without the time.
    var summary: String {
        switch self {
        case .guard(let conflict): conflict.last.line
        case .connectx(let conflict): conflict.last.line
        case .scan(let event): event.line
        }
    }

    func encode(to encoder: any Encoder) throws {
        switch self {
        case .guard(let conflict): try conflict.encode(to: encoder)
        case .connectx(let conflict): try conflict.encode(to: encoder)
        case .scan(let event): try event.encode(to: encoder)
        }
    }

    /// A heading, and below it a line for each thing that is known.
    var lines: [String] {
        let details =
            switch self {
            case .guard(let conflict): Self.details(conflict)
            case .connectx(let conflict): Self.details(conflict)
            case .scan(let event): Self.details(event)
            }
        let width = Terminal.width ?? .max
        return [heading]
            + details.map { label, text in
                let space = String(repeating: " ", count: max(1, 10 - label.count))
                return Terminal.fit("  \(label)\(space)\(text)", width)
            }
    }

    private var heading: String {
        switch self {
        case .guard(let conflict):
            let words =
                switch conflict.last.reason {
                case .exhausted: "no port left for "
                case .budget: "no connection left for "
                default: ""
                }
            return Terminal.bold(words + conflict.last.subject)
        case .connectx(let conflict):
            let transport = conflict.last.notice.transport.name
            return "\(Terminal.bold(conflict.last.subject)) (connectx, \(transport))"
        case .scan(let event):
            let name = event.networkNamespaceName
            let whereabouts = name == NetworkNamespace.ownName ? "" : " in \(printable(name))"
            return "\(Terminal.bold("\(event.tuple)")) (scan)\(whereabouts)"
        }
    }

    private typealias Detail = (label: String, text: String)

    private static func details(_ conflict: Conflict<GuardEvent>) -> [Detail] {
        let last = conflict.last
        var details: [Detail] = [
            (last.action.rawValue, times(conflict)),
            ("claimant", last.claimant?.description ?? "not known"),
            (
                last.reason == .tableFull ? "hoarder" : "holder",
                last.holder?.description ?? "not known"
            ),
            ("because", last.reason.explanation),
        ]
        // Where no port is left, there are thousands of them.
        if last.reason.concernsDestination { details.remove(at: 2) }
        return details
    }

    private static func details(_ conflict: Conflict<ConnectxEvent>) -> [Detail] {
        [
            ("reported", times(conflict)),
            ("sender", conflict.last.sender.description),
            ("because", conflict.last.notice.kind.explanation),
        ]
    }

    private static func details(_ event: ScanEvent) -> [Detail] {
        let label = event.sides.receiver == nil ? "may get" : "receives"
        return [("found", event.time.clock)]
            + event.sides.receiving.map { (label, $0.description) }
            + event.sides.overshadowed.map { ("in vain", $0.description) }
            + (event.sides.dependsOn.map { [("depends", "on \($0.explanation)")] } ?? [])
    }

    private static func times(_ conflict: Conflict<some ConflictEvent>) -> String {
        let last = conflict.last.time.clock
        if conflict.count == 1 { return "once, \(last)" }
        return "\(grouped(conflict.count)) times, first \(conflict.first.clock), last \(last)"
    }
}
