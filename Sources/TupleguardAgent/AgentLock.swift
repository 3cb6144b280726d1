// SPDX-License-Identifier: Apache-2.0
// One agent at a time: a lock that ends with the process that holds it.

import Glibc
import TupleguardAgentClient
import TupleguardSockets

extension RunFolder {
    /// Others may enter, to reach the notices' socket, but not look around; what is not for them
    /// has a mode of its own.
    static let mode: mode_t = 0o751

    /// Whether programs of other users can reach the notices' socket.
    var isEnterable: Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IXOTH != 0
    }
}

/// The agent's lock. The kernel gives it back with the last descriptor, however the agent ends.
struct AgentLock: ~Copyable {
    private let file: OwnedDescriptor

    init(_ folder: RunFolder) throws(AgentError) {
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
                throw .alreadyRunning(lock: folder.lock, pid: folder.agent)
            }
            usleep(50_000)
        }
        let text = "\(getpid())\n"
        ftruncate(raw, 0)
        _ = text.withCString { pwrite(raw, $0, strlen($0), 0) }
        self.file = file
    }

    /// Does nothing. Whoever calls it as the last thing has the lock until then; a value that is
    /// not copied goes after its last use.
    borrowing func keep() {}
}
