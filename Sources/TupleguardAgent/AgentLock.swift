// SPDX-License-Identifier: Apache-2.0
// One agent at a time: a lock that ends with the process that holds it.

import Glibc
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

/// Where a running agent keeps its lock and its sockets.
package struct RunFolder: Sendable {
    package static let defaultPath = "/run/tupleguard"
    package let path: String

    package init(path: String = RunFolder.defaultPath) {
        self.path = path
    }

    package var socket: String { path + "/agent.sock" }
    /// Where programs send what they ran into without the guard.
    package var reportSocket: String { path + "/report.sock" }
    var lock: String { path + "/agent.lock" }

    /// Others may enter, to reach the report socket, but not look around; what is not for
    /// them has a mode of its own.
    static let mode: mode_t = 0o751

    /// Whether programs of other users can reach the report socket.
    var isEnterable: Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IXOTH != 0
    }

    /// The process id of the agent that runs; nil when none does.
    package var agent: Int32? {
        guard let file = try? OwnedDescriptor(path: lock, flags: O_RDONLY) else { return nil }
        if flock(file.raw, LOCK_SH | LOCK_NB) == 0 { return nil }
        return contents(of: lock).flatMap { Int32($0.filter(\.isNumber)) } ?? 0
    }
}

/// The agent's lock. The kernel gives it back with the last descriptor, however the agent ends.
struct AgentLock: ~Copyable {
    private let file: OwnedDescriptor

    init(_ folder: RunFolder) throws(GuardError) {
        if mkdir(folder.path, RunFolder.mode) == 0 {
            chmod(folder.path, RunFolder.mode)  // whatever the umask is
        } else if errno != EEXIST {
            throw .failed(what: "make the folder \(folder.path)", errno: .last, detail: "")
        }
        let raw = open(folder.lock, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        guard raw >= 0 else {
            throw .failed(what: "open \(folder.lock)", errno: .last, detail: "")
        }
        let file = OwnedDescriptor(taking: raw)
        // `status` holds it for a moment while it looks: ask again for a second.
        var tries = 0
        while flock(raw, LOCK_EX | LOCK_NB) != 0 {
            tries += 1
            if tries == 20 {
                let pid = folder.agent.map { " (pid \($0))" } ?? ""
                throw .locked(path: folder.lock, by: "another agent is running\(pid)")
            }
            usleep(50_000)
        }
        let text = "\(getpid())\n"
        ftruncate(raw, 0)
        _ = text.withCString { pwrite(raw, $0, strlen($0), 0) }
        self.file = file
    }
}
