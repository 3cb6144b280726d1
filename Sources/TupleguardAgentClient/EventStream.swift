// SPDX-License-Identifier: Apache-2.0
// The client's side of the agent's event stream.

import Glibc
import TupleguardLinux
import TupleguardSockets

/// The events of a running agent, a line of JSON each.
package struct EventStream: ~Copyable {
    private var connection: AgentConnection

    private init(_ connection: consuming AgentConnection) {
        self.connection = connection
    }

    /// Asks the agent for its events. Throws when none is running.
    package static func open(_ folder: RunFolder) throws(AgentError) -> EventStream {
        var connection = try AgentConnection(to: folder)
        let status = try connection.ask("/events")
        guard status.contains(" 200 ") else {
            throw .failed(
                what: "follow the agent's events", errno: Errno(EBUSY),
                detail: "it answered \(printable(status)); 503 means that too many follow already")
        }
        return EventStream(connection)
    }

    /// The next line, without its end; nil when the agent has gone.
    package mutating func nextLine() -> String? { connection.nextLine() }
}
