// SPDX-License-Identifier: Apache-2.0
// systemd's journal, by its own protocol: entries with fields, a datagram each.
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL; libsystemd's sd_journal_send would be one more
// library to have at run time, for these lines.)

import Glibc
import TupleguardAgentClient
import TupleguardLinux
import TupleguardSockets

/// A field of an entry: a name in capitals, and a value.
struct JournalField: Equatable {
    let name: String
    let value: String

    init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }

    /// A line; a value of several lines comes after its length.
    var bytes: [UInt8] {
        let value = Array(value.utf8)
        let end = UInt8(ascii: "\n")
        guard value.contains(end) else {
            return Array(name.utf8) + [UInt8(ascii: "=")] + value + [end]
        }
        let length = withUnsafeBytes(of: UInt64(value.count).littleEndian) { Array($0) }
        return Array(name.utf8) + [end] + length + value + [end]
    }
}

/// Where the journal takes entries.
final class JournalSocket: Sendable {
    static let path = "/run/systemd/journal/socket"

    private let socket: OwnedDescriptor
    private let name: UnixSocketName

    /// Nil where no socket can be made. Whether anybody listens shows with the first entry.
    init?(_ path: String) {
        guard let name = UnixSocketName(path),
            let socket = try? OwnedDescriptor({
                Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            })
        else { return nil }
        self.name = name
        self.socket = socket
    }

    /// Whether the journal took it; waits while the journal has no room.
    func send(_ entry: [UInt8]) -> Bool {
        let raw = socket.raw
        return name.withSocketAddress { address, length in
            (try? Errno.check {
                sendto(raw, entry, entry.count, Int32(MSG_NOSIGNAL), address, length)
            }) != nil
        }
    }

    /// Whether standard error goes to the journal: systemd names the stream that it is
    /// (JOURNAL_STREAM, systemd.exec(5)).
    static var readsStandardError: Bool {
        guard let stream = getenv("JOURNAL_STREAM") else { return false }
        var status = stat()
        return fstat(STDERR_FILENO, &status) == 0
            && String(cString: stream) == "\(status.st_dev):\(status.st_ino)"
    }
}
