// SPDX-License-Identifier: Apache-2.0
// Telling systemd how the agent is doing (sd_notify(3)).

import Glibc
import ServiceLifecycle
import TupleguardAgentClient
import TupleguardLinux
import TupleguardSockets
import UnixSignals

/// The service manager that started us, if it wants to hear.
struct ServiceManager: Sendable {
    private let path: String?
    /// In which time it wants to hear that the agent works (WatchdogSec); nil when it does not.
    let watchdog: Duration?

    /// - Parameters:
    ///   - path: NOTIFY_SOCKET; "@" first stands for an abstract socket.
    ///   - watchdog: WATCHDOG_USEC, if that is meant for this process.
    init(
        path: String? = environment("NOTIFY_SOCKET"),
        watchdog: Duration? = Self.watchdogOfEnvironment
    ) {
        self.path = path
        self.watchdog = path == nil ? nil : watchdog
    }

    func ready(_ status: String) { send("READY=1\nSTATUS=\(status)\nMAINPID=\(getpid())") }
    func stopping() { send("STOPPING=1") }
    func status(_ status: String) { send("STATUS=\(status)") }
    /// Whoever does the work says so itself: a timer would go on when that no longer does.
    func isWorking() { if watchdog != nil { send("WATCHDOG=1") } }

    /// Between this and `ready` the configuration is being read again (Type=notify-reload).
    func reloading() {
        send("RELOADING=1\nMONOTONIC_USEC=\(KernelClock.monotonic / 1000)")
    }

    /// sd_watchdog_enabled(3).
    private static var watchdogOfEnvironment: Duration? {
        if let pid = environment("WATCHDOG_PID"), Int32(pid) != getpid() { return nil }
        guard let text = environment("WATCHDOG_USEC"), let microseconds = Int64(text),
            microseconds > 0
        else { return nil }
        return .microseconds(microseconds)
    }

    /// Best effort: an agent that cannot report goes on all the same. One that waited for a
    /// manager that does not read could not guard.
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
                sendto(
                    socket.raw, $0, strlen($0), Int32(MSG_NOSIGNAL | MSG_DONTWAIT), address, length)
            }
        }
    }
}

private func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

/// Says that the agent is stopping, as soon as it is told to.
struct StopNotifier: Service {
    let manager: ServiceManager

    func run() async throws {
        try? await gracefulShutdown()
        manager.stopping()
    }
}

/// Signals as they come. From the making of this on they no longer end the process.
struct SignalRequests: Sendable {
    fileprivate let signals: UnixSignalsSequence

    init(_ signals: UnixSignal...) async {
        self.signals = await UnixSignalsSequence(trapping: signals)
    }
}

/// Calls `reload` whenever SIGHUP comes.
struct ReloadListener: Service {
    let requests: SignalRequests
    let reload: @Sendable () -> Void

    func run() async throws {
        for await _ in requests.signals.cancelOnGracefulShutdown() { reload() }
    }
}

/// Ends when the agent is told to stop, and with it, in order, all the others.
struct StopListener: Service {
    let requests: SignalRequests

    func run() async throws {
        for await _ in requests.signals.cancelOnGracefulShutdown() { return }
    }
}
