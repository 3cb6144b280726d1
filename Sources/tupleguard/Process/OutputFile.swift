// SPDX-License-Identifier: Apache-2.0
// A file that is written whole or not at all.

import ArgumentParser
import Glibc
import TupleguardLinux
import TupleguardSockets

/// Where output goes: a file, or "-" for standard output.
struct OutputFile: ExpressibleByArgument {
    /// Why there can be no such file, and what to do.
    struct Refusal: Error, CustomStringConvertible {
        let description: String
    }

    private let path: String

    init?(argument: String) {
        guard !argument.isEmpty, !argument.utf8.contains(0) else { return nil }
        path = argument
    }

    var isStandardOutput: Bool { path == "-" }

    /// Where the file is or will be: what a link leads to is replaced, not the link.
    private var target: String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return fileName(UnsafeRawBufferPointer(start: resolved, count: strlen(resolved)))
    }

    private func refusal(_ why: String) -> Refusal {
        Refusal(description: "cannot write \(printable(path)): \(why)")
    }

    /// Fails early, before the work whose result is to be written.
    func check() throws(Refusal) {
        if isStandardOutput { return }
        if path.hasSuffix("/") { throw refusal("it is a folder; name a file in it") }
        var status = stat()
        if stat(path, &status) == 0 {
            switch status.st_mode & S_IFMT {
            case S_IFREG: break
            case S_IFDIR: throw refusal("it is a folder; name a file in it")
            // A file in the place of a device would be the end of that device.
            default: throw refusal("it is no ordinary file; write to \"-\", and redirect that")
            }
        } else if errno != ENOENT {
            throw refusal(Errno.last)
        }
        guard let temporary = try? Temporary(beside: target) else { throw refusal(.last) }
        _ = consume temporary
    }

    private func refusal(_ error: Errno) -> Refusal {
        let remedy =
            switch error.number {
            case ENOENT, ENOTDIR: "; there is no such folder: make it, or name another"
            case EACCES, EPERM, EROFS: "; name a file where you may write, or \"-\""
            case ENOSPC, EDQUOT: "; make room, or name a file on another disk"
            default: ""
            }
        return refusal("\(error)\(remedy)")
    }

    /// Readers find the old text or the new one, and the old one stays when this fails. The new
    /// file is for whom the old one was.
    func write(_ text: String) throws(Refusal) {
        if isStandardOutput { return print(text, terminator: "") }
        do throws(Errno) {
            let temporary = try Temporary(beside: target)
            try temporary.write(text)
            try temporary.moveIntoPlace()
        } catch {
            throw refusal(error)
        }
    }
}

/// Who may read and write a file: to be the same of the one that takes its place.
private struct Permissions {
    private let mode: mode_t
    private let owner: uid_t
    private let group: gid_t

    /// Nil where there is no file.
    init?(of path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        mode = status.st_mode & 0o777
        owner = status.st_uid
        group = status.st_gid
    }

    /// With the owner and the group as far as the kernel allows.
    func give(to file: Int32) throws(Errno) {
        var mode = mode
        if fchown(file, owner, group) != 0 && fchown(file, uid_t.max, group) != 0 {
            // What the old group was allowed is not for another group.
            mode = (mode & ~0o070) | ((mode & 0o007) << 3)
        }
        let allowed = mode
        try Errno.check { fchmod(file, allowed) }
    }
}

/// A new file in the folder of another; removed, unless it has taken that one's place.
private struct Temporary: ~Copyable {
    private let name: String
    private let target: String
    private let replaced: Permissions?
    private let file: OwnedDescriptor

    init(beside target: String) throws(Errno) {
        self.target = target
        let name = "\(target).\(getpid()).new"
        self.name = name
        let replaced = Permissions(of: target)
        self.replaced = replaced
        // In the place of a file nobody else may read it before it has that one's permissions.
        let mode: mode_t = replaced == nil ? 0o644 : 0o600
        file = try OwnedDescriptor {
            open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
        }
    }

    func write(_ text: String) throws(Errno) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = try Errno.check {
                bytes.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
            }
            bytes = bytes.dropFirst(count)
        }
        try replaced?.give(to: file.raw)
        try Errno.check { fsync(file.raw) }
    }

    consuming func moveIntoPlace() throws(Errno) {
        try Errno.check { rename(name, target) }
    }

    deinit {
        unlink(name)
    }
}
