// SPDX-License-Identifier: Apache-2.0
// Files of /proc: processes choose some of what is in them, and other kernels the rest.

import Glibc
import TupleguardHostSurvey
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// Whatever a file of /proc says, what is read of it makes sense. The first letter of the input
/// says what it is the file of, the rest is the file.
@Sendable func acceptsProcFile(_ input: UnsafeRawBufferPointer) throws -> Bool {
    guard let kind = input.first else { return false }
    try OneFileProc.shared.write(UnsafeRawBufferPointer(rebasing: input.dropFirst()))
    let proc = OneFileProc.shared.proc
    return switch kind {
    case UInt8(ascii: "P"): try acceptsPorts(proc)
    case UInt8(ascii: "N"): try acceptsNames(proc)
    case UInt8(ascii: "S"):
        (proc.parent(of: 1), proc.isStopped(1)) != (nil, nil) && !proc.users(of: 1).isEmpty
    case UInt8(ascii: "L"): DescriptorUse(pid: 1, proc) != nil
    case UInt8(ascii: "F"): HostFiles.current(proc) != nil
    case UInt8(ascii: "M"): (try? CgroupHierarchy(proc: proc, outer: []))?.mountPoint != nil
    default: false
    }
}

private func acceptsPorts(_ proc: Proc) throws -> Bool {
    let settings = PortSettings.current(proc)
    try require(settings.reservedCount >= 0, "less than no ports are reserved")
    try require(
        settings.possible >= 0 && settings.possible <= settings.range.count,
        "\(settings.possible) ports of \(settings.range), without \(settings.reservedList)")
    try require(settings.pieces <= settings.reserved.count + 1, "more pieces than there can be")
    _ = settings.reusesTimeWait(to: .loopback6)
    return settings.timeWaitReuse != nil || !settings.reserved.isEmpty
}

private func acceptsNames(_ proc: Proc) throws -> Bool {
    let identity = ProcessIdentity(pid: 1, in: proc)
    try require(
        identity?.description.unicodeScalars.contains(where: \.isUnfitToBeShown) != true,
        "a process's name unfit to be shown")
    return proc.cgroup(of: 1) != nil
}

/// A /proc in which every file that is read is one and the same.
private struct OneFileProc: Sendable {
    private static let names = [
        "1/comm", "1/status", "1/cgroup", "1/limits", "self/mounts", "sys/fs/file-nr",
        "sys/net/ipv4/ip_local_port_range", "sys/net/ipv4/ip_local_reserved_ports",
        "sys/net/ipv4/tcp_tw_reuse", "sys/net/ipv4/tcp_timestamps",
    ]
    private static let folders = [
        "1", "1/fd", "self", "sys", "sys/fs", "sys/net", "sys/net/ipv4",
    ]

    /// There until the process ends.
    static let shared = OneFileProc()

    let proc: Proc
    /// What they all are: written to for every input.
    private let file: Int32

    private init() {
        // In memory, where there is such a place.
        let place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
        var name = Array("\(place)/tupleguard-fuzz-XXXXXX".utf8CString)
        let made = mkdtemp(&name) != nil
        precondition(made, "cannot make a folder in \(place): \(Errno.last)")
        proc = Proc(
            root: String(decoding: name.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self))
        for folder in Self.folders { mkdir(proc.path(folder), 0o700) }
        for name in Self.names { symlink(proc.path("file"), proc.path(name)) }
        file = open(proc.path("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        atexit { OneFileProc.shared.remove() }
    }

    private func remove() {
        for name in Self.names + ["file"] { unlink(proc.path(name)) }
        for folder in Self.folders.reversed() { rmdir(proc.path(folder)) }
        rmdir(proc.root)
    }

    func write(_ input: UnsafeRawBufferPointer) throws {
        try Errno.check { ftruncate(file, 0) }
        try Errno.check { pwrite(file, input.baseAddress, input.count, 0) }
    }
}
