// SPDX-License-Identifier: Apache-2.0
// Telling systemd how the agent is doing (sd_notify(3)).

import Glibc
import Net

/// The service manager that started us, if it wants to hear.
struct ServiceManager: Sendable {
    private let path: String?

    /// - Parameter path: NOTIFY_SOCKET; "@" first stands for an abstract socket.
    init(path: String? = getenv("NOTIFY_SOCKET").map { String(cString: $0) }) {
        self.path = path
    }

    func ready(_ status: String) { send("READY=1\nSTATUS=\(status)\nMAINPID=\(getpid())") }
    func status(_ status: String) { send("STATUS=\(status)") }
    func stopping() { send("STOPPING=1") }

    /// Best effort: an agent that cannot report goes on all the same.
    private func send(_ message: String) {
        guard let path, path.hasPrefix("/") || path.hasPrefix("@") else { return }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return }
        if path.hasPrefix("@") { bytes[0] = 0 }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        guard
            let socket = try? OwnedDescriptor({
                Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            })
        else { return }
        withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                _ = message.withCString {
                    sendto(socket.raw, $0, strlen($0), Int32(MSG_NOSIGNAL), address, length)
                }
            }
        }
    }
}
