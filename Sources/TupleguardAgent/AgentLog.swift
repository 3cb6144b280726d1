// SPDX-License-Identifier: Apache-2.0
// The agent's log: lines on stderr, for people or as JSON.

import Glibc
import Logging
import TupleguardLinux
import TupleguardRecords

package enum LogFormat: String, CaseIterable, Sendable {
    case text
    case json
}

/// Writes a line for each message to stderr.
struct AgentLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info
    let format: LogFormat

    init(format: LogFormat) {
        self.format = format
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    private struct Line: Encodable {
        let time: Timestamp
        let level: String
        let message: String
    }

    func log(event: LogEvent) {
        let time = Timestamp.now
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        let message = event.message.description + fields.map { " \($0.key)=\($0.value)" }.joined()
        switch format {
        case .text: writeLine("\(time) \(event.level) \(message)")
        case .json:
            writeLine(encodeJSON(Line(time: time, level: "\(event.level)", message: message)))
        }
    }
}

/// One write, so that lines of several threads do not mix.
func writeLine(_ line: String) {
    _ = (line + "\n").withCString { write(STDERR_FILENO, $0, strlen($0)) }
}
