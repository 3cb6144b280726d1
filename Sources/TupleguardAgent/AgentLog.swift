// SPDX-License-Identifier: Apache-2.0
// The agent's log: lines for people or as JSON on standard error, or entries of the journal.

import Dispatch
import Glibc
import Logging
import Synchronization
import TupleguardLinux
import TupleguardRecords

package enum LogFormat: String, CaseIterable, Sendable {
    case text
    case json
    /// systemd's journal, by its own protocol.
    case journal

    /// The journal where that is what reads standard error, else text.
    package static var suitable: LogFormat {
        JournalSocket.readsStandardError ? .journal : .text
    }
}

/// What is logged.
struct LogEntry {
    var time = Timestamp.now
    var level = Logger.Level.notice
    /// One line for people.
    var message: String
    /// All of it as a JSON object; made of time, level and message where there is none.
    var json: String?
    /// More for the journal.
    var fields: [JournalField] = []
}

/// Takes entries and has a thread of its own write them.
///
/// Whoever reads may be slow, or read no more: a pipe that is full holds up that thread and nobody
/// else. What does not fit in meanwhile is dropped, and counted.
final class AgentLog: Sendable {
    /// Bytes that may wait to be written.
    static let room = 1 << 20

    private struct Waiting {
        var lines: [Line] = []
        var bytes = 0
        var dropped = 0
        var isClosed = false
    }

    private struct Line {
        let bytes: [UInt8]
        /// For standard error, where the journal does not take it.
        var substitute: String?
    }

    private let format: LogFormat
    private let journal: JournalSocket?
    private let waiting = Mutex(Waiting())
    private let hasMore = DispatchSemaphore(value: 0)
    private let hasEnded = DispatchSemaphore(value: 0)
    private let lost = Atomic<UInt64>(0)

    /// - Parameter journal: where the journal listens, for its format.
    init(_ format: LogFormat, journal: String = JournalSocket.path) {
        self.format = format
        self.journal = format == .journal ? JournalSocket(journal) : nil
        do {
            _ = try Thread { self.writeUntilClosed() }
        } catch {
            hasEnded.signal()
        }
    }

    /// How many entries were dropped since the start.
    var linesLost: UInt64 { lost.load(ordering: .relaxed) }

    func write(_ entry: LogEntry) {
        let line = makeLine(entry)
        let isKept = waiting.withLock { waiting in
            guard waiting.bytes + line.bytes.count <= Self.room else {
                waiting.dropped += 1
                return false
            }
            waiting.lines.append(line)
            waiting.bytes += line.bytes.count
            return true
        }
        if isKept { hasMore.signal() } else { lost.add(1, ordering: .relaxed) }
    }

    /// Has what waits be written, and waits for that, but not for long.
    func close() {
        waiting.withLock { $0.isClosed = true }
        hasMore.signal()
        if hasEnded.wait(timeout: .now() + .seconds(1)) == .success { hasEnded.signal() }
    }

    // MARK: - Forms

    private struct Object: Encodable {
        let time: Timestamp
        let level: String
        let message: String
    }

    private func makeLine(_ entry: LogEntry) -> Line {
        let message = printable(entry.message)
        switch format {
        case .text:
            return Line(bytes: Array("\(entry.time) \(entry.level) \(message)\n".utf8))
        case .json:
            let object = Object(time: entry.time, level: "\(entry.level)", message: message)
            return Line(bytes: Array(((entry.json ?? encodeJSON(object)) + "\n").utf8))
        case .journal:
            let priority = entry.level.priority
            let fields =
                [
                    JournalField("MESSAGE", message), JournalField("PRIORITY", "\(priority)"),
                    JournalField("SYSLOG_IDENTIFIER", "tupleguard"),
                ] + entry.fields
            // The journal takes a priority from lines of standard error too (sd-daemon(3)).
            return Line(
                bytes: fields.flatMap(\.bytes), substitute: "<\(priority)>\(message)\n")
        }
    }

    // MARK: - Writing

    private func writeUntilClosed() {
        while true {
            hasMore.wait()
            let (lines, dropped, isClosed) = waiting.withLock { waiting in
                defer {
                    waiting.lines = []
                    waiting.bytes = 0
                    waiting.dropped = 0
                }
                return (waiting.lines, waiting.dropped, waiting.isClosed)
            }
            for line in lines { deliver(line) }
            if dropped > 0 {
                deliver(
                    makeLine(
                        LogEntry(
                            level: .warning,
                            message:
                                "\(amount(dropped, "line")) of this log lost: whoever reads it did not keep up"
                        )))
            }
            guard isClosed else { continue }
            hasEnded.signal()
            return
        }
    }

    private func deliver(_ line: Line) {
        if let journal {
            if journal.send(line.bytes) { return }
            writeAll(Array((line.substitute ?? "").utf8))
        } else {
            writeAll(line.bytes)
        }
    }

    /// One write where that is possible, so that lines of other writers do not mix with ours.
    private func writeAll(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.write(STDERR_FILENO, $0.baseAddress!, $0.count)
            }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if count < 0 && errno == EAGAIN {
                // Somebody made it non-blocking; we wait all the same.
                var ready = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
                poll(&ready, 1, -1)
            } else if count == 0 || errno != EINTR {
                return  // closed: nobody wants to read it
            }
        }
    }
}

extension Logger.Level {
    /// As syslog(3) numbers them.
    var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}

/// Has a logger's messages go to the agent's log.
struct AgentLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info
    private let destination: AgentLog

    init(_ destination: AgentLog) {
        self.destination = destination
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
        destination.write(
            LogEntry(
                level: event.level,
                message: event.message.description
                    + fields.map { " \($0.key)=\($0.value)" }.joined()))
    }
}
