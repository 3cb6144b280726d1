// SPDX-License-Identifier: Apache-2.0
// What an agent answers, of whatever version it is, and events that were kept as lines of JSON.

import TupleguardAgentClient
import TupleguardLinux
import TupleguardRecords

/// JSON of the agent's is shown without harm; whatever can be read is written so that the same can
/// be read again.
@Sendable func acceptsAgentAnswer(_ input: UnsafeRawBufferPointer) throws -> Bool {
    let text = text(input)
    var isRead = false
    if let findings: AgentFindings = decodeJSON(text) {
        isRead = true
        try show(findings.conflicts.map(\.last))
        try show(findings.scan?.shadows ?? [])
        try require(
            (decodeJSON(encodeJSON(findings)) as AgentFindings?) != nil,
            "findings that are not read")
    }
    if let summary: AgentSummary = decodeJSON(text) {
        isRead = true
        try require(decodeJSON(encodeJSON(summary)) == summary, "another summary is read")
    }
    if let cgroups: RememberedCgroups = decodeJSON(text) {
        isRead = true
        let again: RememberedCgroups? = decodeJSON(encodeJSON(cgroups))
        try require(again?.paths == cgroups.paths, "other cgroups are read")
    }
    let (guarded, scanned): (Conflict<GuardEvent>?, ScanEvent?) = (
        decodeJSON(text), decodeJSON(text)
    )
    try show((guarded.map { [$0.last] } ?? []))
    try show(scanned.map { [$0] } ?? [])
    return isRead || guarded != nil || scanned != nil
}

private func show(_ events: [some ConflictEvent]) throws {
    for event in events {
        try require(
            !event.line.unicodeScalars.contains(where: \.isUnfitToBeShown), "unfit to be shown")
        _ = event.time.clock
        _ = event.time.age
    }
}
