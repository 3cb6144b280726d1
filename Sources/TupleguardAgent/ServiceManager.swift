// SPDX-License-Identifier: Apache-2.0
// Telling systemd how the agent is doing (sd_notify(3)).

import Glibc
import ServiceLifecycle
import TupleguardAgentClient
import TupleguardSockets

/// The service manager that started us, if it wants to hear.
struct ServiceManager: Sendable {
    private let path: String?

    /// - Parameter path: NOTIFY_SOCKET; "@" first stands for an abstract socket.
    init(path: String? = getenv("NOTIFY_SOCKET").map { String(cString: $0) }) {
        self.path = path
    }

    func ready(_ status: String) { send("READY=1\nSTATUS=\(status)\nMAINPID=\(getpid())") }
    func stopping() { send("STOPPING=1") }

    /// Best effort: an agent that cannot report goes on all the same.
    private func send(_ message: String) {
        guard let path, path.hasPrefix("/") || path.hasPrefix("@"),
            let name = UnixSocketName(path)
        else { return }
        guard
            let socket = try? OwnedDescriptor({
                Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            })
        else { return }
        name.withSocketAddress { address, length in
            _ = message.withCString {
                sendto(socket.raw, $0, strlen($0), Int32(MSG_NOSIGNAL), address, length)
            }
        }
    }
}

/// Says that the agent is stopping, as soon as it is told to.
struct StopNotifier: Service {
    let manager: ServiceManager

    func run() async throws {
        try? await gracefulShutdown()
        manager.stopping()
    }
}
