// SPDX-License-Identifier: Apache-2.0
// Whose a socket is: what /proc tells of the descriptors of processes.

import Glibc
package import TupleguardLinux

/// Which processes have which sockets open.
///
/// Every descriptor of every process is looked at once, about a microsecond each; what is kept is
/// eight bytes for each socket that was asked for.
package struct SocketOwners: Sendable {
    private let inodes: [UInt32]
    /// The first process that was found with each, 0 for none.
    private var first: [Int32]
    private var others: [UInt32: [Int32]] = [:]
    /// Processes whose descriptors we may not see.
    package private(set) var unreadable = 0

    private static let othersLimit = 4096

    /// Looks for the owners of these sockets; not at all when there are none.
    package init(of wanted: [UInt32], _ proc: Proc = .system) {
        inodes = wanted.sorted()
        first = [Int32](repeating: 0, count: inodes.count)
        guard !inodes.isEmpty else { return }
        for pid in proc.processes {
            let isReadable = forEachSocket(in: proc.path(of: pid, "fd")) { add($0, pid) }
            if !isReadable && errno == EACCES { unreadable += 1 }
        }
    }

    private mutating func add(_ inode: UInt32, _ pid: Int32) {
        guard var index = firstIndex(of: inode) else { return }
        // A socket may be wanted twice.
        while index < inodes.count, inodes[index] == inode {
            if first[index] == 0 {
                first[index] = pid
            } else if first[index] != pid, others.count < Self.othersLimit {
                var more = others[inode] ?? []
                if !more.contains(pid), more.count < 16 { more.append(pid) }
                others[inode] = more
            }
            index += 1
        }
    }

    private func firstIndex(of inode: UInt32) -> Int? {
        var low = 0
        var high = inodes.count
        while low < high {
            let middle = (low + high) / 2
            if inodes[middle] < inode { low = middle + 1 } else { high = middle }
        }
        return low < inodes.count && inodes[low] == inode ? low : nil
    }

    /// The processes that have this socket open, as far as we may know.
    package func processes(of inode: UInt32) -> [Int32] {
        guard inode != 0, let index = firstIndex(of: inode), first[index] != 0 else { return [] }
        return [first[index]] + (others[inode] ?? [])
    }

    /// One process for each socket; how many of the sockets each has. Most first.
    package func count(_ inodes: some Sequence<UInt32>) -> [(pid: Int32, sockets: Int)] {
        var counts: [Int32: Int] = [:]
        for inode in inodes {
            if let pid = processes(of: inode).first { counts[pid, default: 0] += 1 }
        }
        return counts.map { (pid: $0.key, sockets: $0.value) }.sorted {
            ($0.sockets, $1.pid) > ($1.sockets, $0.pid)
        }
    }
}

/// Calls `body` with the inode of each socket among the descriptors of a process; false when they
/// can't be seen.
private func forEachSocket(in descriptors: String, _ body: (UInt32) -> Void) -> Bool {
    guard let folder = opendir(descriptors) else { return false }
    defer { closedir(folder) }
    let descriptor = dirfd(folder)
    // "socket:[4294967295]"
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { link in
        while let entry = readdir(folder) {
            let length = withUnsafePointer(to: &entry.pointee.d_name) { name in
                name.withMemoryRebound(to: CChar.self, capacity: 256) {
                    readlinkat(descriptor, $0, link.baseAddress!, link.count)
                }
            }
            guard length > 0 else { continue }
            if let inode = socketInode(UnsafeRawBufferPointer(link).prefix(length)) { body(inode) }
        }
        return true
    }
}

/// The number in "socket:[4711]"; nil for other text.
func socketInode(_ link: some Sequence<UInt8>) -> UInt32? {
    var bytes = link.makeIterator()
    for expected in "socket:[".utf8 where bytes.next() != expected { return nil }
    var number: UInt64 = 0
    while let byte = bytes.next(), number <= UInt32.max {
        if byte == UInt8(ascii: "]") { return UInt32(exactly: number) }
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
        number = number * 10 + UInt64(byte - UInt8(ascii: "0"))
    }
    return nil
}
