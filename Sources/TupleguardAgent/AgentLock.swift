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
        let place = try Self.open(folder)
        let name = folder.lock.split(separator: "/").last.map(String.init)!
        let raw = openat(
            place.raw, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0o640)
        guard raw >= 0 else {
            throw .failed(
                what: "open \(folder.lock)", errno: .last,
                detail: errno == ELOOP ? "it is a symbolic link: remove it" : "")
        }
        let file = OwnedDescriptor(taking: raw)
        try Self.requireOurs(file, folder.lock, S_IFREG)
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

    /// Whoever could write to the folder could put his own in the place of what we make there.
    private static func open(_ folder: RunFolder) throws(AgentError) -> OwnedDescriptor {
        let raw = Glibc.open(folder.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard raw >= 0 else {
            throw .failed(
                what: "open the folder \(folder.path)", errno: .last,
                detail: errno == ELOOP || errno == ENOTDIR
                    ? "it has to be a folder, and no symbolic link" : "")
        }
        let place = OwnedDescriptor(taking: raw)
        try requireOurs(place, folder.path, S_IFDIR)
        return place
    }

    private static func requireOurs(
        _ file: borrowing OwnedDescriptor, _ path: String, _ type: mode_t
    ) throws(AgentError) {
        var status = stat()
        guard fstat(file.raw, &status) == 0, status.st_mode & S_IFMT == type,
            status.st_uid == geteuid(), status.st_mode & 0o022 == 0
        else {
            throw .failed(
                what: "use \(path)", errno: Errno(EPERM),
                detail:
                    "it belongs to uid \(status.st_uid) and has mode \(String(status.st_mode & 0o7777, radix: 8)): it has to be ours, and nobody else may write to it"
            )
        }
    }

    /// Does nothing. Whoever calls it as the last thing has the lock until then; a value that is
    /// not copied goes after its last use.
    borrowing func keep() {}
}
