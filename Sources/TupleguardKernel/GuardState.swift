// SPDX-License-Identifier: Apache-2.0
// The pinned state: what stays in the kernel when every process is gone.
//
//   FOLDER/                     mode 0750; locked (flock) by whoever changes it
//     maps/                     what all guarded cgroups share
//       abi buckets groups claims_more socket_records socket_records_more busy busy_tags ids
//       usage conflicts events guarded strongest sides seeded kept_ports reservations sources
//     outside/                  for sockets outside of all guarded cgroups, if wanted
//       outer_connect4 outer_connect6 outer_release    links, to the root cgroup
//       counters
//     cgroup-ID/                a guarded cgroup
//       guard_connect4 guard_connect6 guard_bind4 guard_bind6 guard_release    links
//       own_connect4 own_connect6 own_release          the same, if it has ports of its own
//       policy counters                                maps of its own
//     new-…, old-…              under way; garbage when nobody holds the lock, but for
//     taking-over               while this is there: new-… is what counts, and old-… is not
//
// Whatever is built is pinned in a folder new-… and renamed into place.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

/// The guard's state in the BPF file system.
package struct GuardState: Sendable {
    /// The layout of the maps that this program knows.
    package static let abi = UInt32(TG_ABI)
    package static let defaultFolder = "/sys/fs/bpf/tupleguard"

    package let folder: String
    /// Buckets, where they are to be fewer than fit the table: tests want most claims to overflow.
    let fewBuckets: Int?

    /// The folder of the cgroup outside of which no sockets are looked for; nil: the root. Tests
    /// have one of their own, so as to leave the machine's alone.
    package var outermost: String?

    /// - Parameters:
    ///   - folder: a folder of a BPF file system; it need not exist yet.
    ///   - fewBuckets: a power of two; nil for as many as fit the table.
    package init(folder: String = GuardState.defaultFolder, fewBuckets: Int? = nil) {
        self.folder = Self.reachable(
            folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder)
        self.fewBuckets = fewBuckets
    }

    /// The folder, or the one of that name in the mount namespace of whoever started us, where that
    /// has a BPF file system there and ours has not.
    private static func reachable(_ folder: String) -> String {
        let parent = Self.parent(of: folder)
        if Platform.isBPFFileSystem(parent) { return folder }
        let outer = OuterRoot.all.first { Platform.isBPFFileSystem($0.path + parent) }
        return (outer?.path ?? "") + folder
    }

    private static func parent(of folder: String) -> String {
        folder.lastIndex(of: "/").map { String(folder[..<$0]) } ?? "."
    }

    /// Whether this is a new guard that is being made beside one of an older version.
    var isStaged = false

    /// Ends the taking over of an older guard after so many moves, as a crash would; nil: not.
    /// For tests.
    var movesBeforeCrash: Int?
    var mapsFolder: String { "\(folder)/\(isStaged ? "new-maps" : "maps")" }
    private var attachmentPrefix: String { isStaged ? "new-" : "cgroup-" }

    func map(_ name: MapName) -> String { "\(mapsFolder)/\(name.rawValue)" }

    func attachmentFolder(_ id: UInt64) -> String { "\(folder)/\(attachmentPrefix)\(id)" }

    /// Whether anything is pinned here.
    package var exists: Bool { access(mapsFolder, F_OK) == 0 }

    /// Cgroup ids of the attachments.
    var attachmentIDs: [UInt64] {
        names(in: folder).compactMap { name in
            name.hasPrefix(attachmentPrefix)
                ? UInt64(name.dropFirst(attachmentPrefix.count)) : nil
        }.sorted()
    }

    /// Opens a shared map, after making sure that the state is one we understand.
    func open(_ name: MapName) throws(GuardError) -> BPFMap {
        _ = try readABI()
        return try BPFMap(pinned: map(name))
    }

    /// What the state says of itself.
    ///
    /// Throws `noGuard` when nothing is there, `otherABI` or `damagedState` when it isn't ours.
    func readABI() throws(GuardError) -> tg_abi_info {
        if access(folder, F_OK) != 0 && errno == EACCES {
            throw .failed(
                what: "look into \(folder)", errno: Errno(EACCES), detail: "run it as root (sudo)")
        }
        while true {
            try requireMaps()
            let met = mapsFolderInode
            do throws(GuardError) {
                return try checkedABI()
            } catch {
                // Whose guard was taken off while we looked is not damaged.
                if met != nil && mapsFolderInode == met { throw error }
            }
        }
    }

    /// Tells one folder of shared maps from another at its place; nil where there is none.
    private var mapsFolderInode: ino_t? {
        var status = stat()
        return stat(mapsFolder, &status) == 0 ? status.st_ino : nil
    }

    private func checkedABI() throws(GuardError) -> tg_abi_info {
        let info = try pinnedInfo()
        guard info.abi == Self.abi else { throw .otherABI(path: folder, found: info.abi) }
        guard GuardError.tableSizes.contains(Int(info.table_size)) else {
            throw .damagedState(path: folder, why: "its table has \(info.table_size) entries")
        }
        let shapes = try MapShape.all(tableSize: Int(info.table_size), buckets: fewBuckets)
        for name in MapName.shared { try check(name, at: map(name), shapes) }
        return info
    }

    /// - Throws: `noGuard` where nothing is, `damagedState` where only the shared maps are missing.
    private func requireMaps() throws(GuardError) {
        // Taking over from an older version there is a moment without.
        for _ in 0..<10 {
            if exists { return }
            if attachmentIDs.isEmpty { throw .noGuard(path: folder) }
            usleep(20_000)
        }
        throw .damagedState(
            path: folder, why: "cgroups are attached (cgroup-…), but \(mapsFolder) is missing")
    }

    /// Programs that are given another map than they were made for go wrong without a word.
    func check(
        _ name: MapName, at path: String, _ shapes: [MapName: MapShape]
    ) throws(GuardError) {
        guard access(path, F_OK) == 0 else {
            throw .damagedState(path: folder, why: "\(path) is missing")
        }
        let shape = try BPFMap(pinned: path).shape
        if let expected = shapes[name], shape != expected {
            throw .damagedState(path: path, why: "it is \(shape), and should be \(expected)")
        }
    }

    /// What a state says of itself, whatever version made it.
    func pinnedInfo() throws(GuardError) -> tg_abi_info {
        guard access(map(.abi), F_OK) == 0 else {
            throw .damagedState(path: folder, why: "\(map(.abi)) is missing")
        }
        let map = try BPFMap(pinned: map(.abi))
        guard let info = map.element(0, as: tg_abi_info.self), info.magic == UInt32(TG_MAGIC)
        else {
            throw .damagedState(path: folder, why: "\(self.map(.abi)) is not the guard's")
        }
        return info
    }

    /// Claims that the table has room for.
    package func tableSize() throws(GuardError) -> Int {
        Int(try readABI().table_size)
    }

    // MARK: - Changing

    /// Makes the folder if need be, takes the lock, and runs `body`.
    ///
    /// Waits up to ten seconds for whoever holds the lock. What an interrupted
    /// change left half-made is removed first.
    func changing<Result>(_ body: () throws -> Result) throws -> Result {
        let lock = try lockFolder()
        try finishTakeOver()
        removeFolders { $0.hasPrefix("new-") || $0.hasPrefix("old-") }
        defer { if names(in: folder).isEmpty { rmdir(folder) } }
        let result = try body()
        _ = lock
        return result
    }

    private func lockFolder() throws(GuardError) -> OwnedDescriptor {
        let deadline = KernelClock.monotonic + 10_000_000_000
        while true {
            if access(folder, F_OK) != 0 { try makeFolder() }
            let lock: OwnedDescriptor
            do {
                lock = try OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
            } catch {
                if error.number == ENOENT { continue }
                throw .damagedState(path: folder, why: "it cannot be opened: \(error)")
            }
            if flock(lock.raw, LOCK_EX | LOCK_NB) == 0 {
                // The last one to leave removes the folder: is it still the one at this path?
                var ours = stat()
                var there = stat()
                if fstat(lock.raw, &ours) == 0, stat(folder, &there) == 0,
                    ours.st_ino == there.st_ino
                {
                    return lock
                }
            } else if KernelClock.monotonic > deadline {
                throw .locked(path: folder, by: "another process is changing the guard")
            }
            usleep(20_000)
        }
    }

    /// Whether a guard can be kept here.
    ///
    /// - Throws: what is in the way, before anything is changed.
    package func checkPlace() throws(GuardError) {
        try Platform.check()
        let parent = Self.parent(of: folder)
        if access(folder, F_OK) != 0 { try Platform.requireBPFFileSystem(at: parent) }
        // What is pinned where only this mount namespace has it mounted goes with that.
        if LastingMounts.have(fileSystemOf: parent) == false { throw .passingPlace(path: parent) }
    }

    private func makeFolder() throws(GuardError) {
        try Platform.requireBPFFileSystem(at: Self.parent(of: folder))
        if mkdir(folder, 0o750) != 0 && errno != EEXIST {
            throw .failed(what: "make the folder \(folder)", errno: .last, detail: "")
        }
    }

    /// Pins the shared maps of `programs`, which made them, in a folder of their own.
    func pinSharedMaps(
        of programs: borrowing LoadedPrograms, tableSize: Int, in temporary: String
    ) throws(GuardError) {
        var info = tg_abi_info()
        info.magic = UInt32(TG_MAGIC)
        info.abi = Self.abi
        info.table_size = UInt32(tableSize)
        var zero: UInt32 = 0
        let abi = programs.map(.abi)
        try perform("write the state's version") { bpf_map_update_elem(abi, &zero, &info, 0) }
        var usage = tg_usage(tableSize: tableSize)
        let usageMap = programs.map(.usage)
        try perform("write the table's size") { bpf_map_update_elem(usageMap, &zero, &usage, 0) }
        try perform("make the folder \(temporary)") { mkdir(temporary, 0o750) }
        for name in MapName.shared {
            let map = programs.map(name)
            try perform("pin map \(name)") { bpf_obj_pin(map, "\(temporary)/\(name.rawValue)") }
        }
    }

    /// Removes the folders of pins that have such names.
    func removeFolders(where isMeant: (String) -> Bool) {
        for name in names(in: folder) where isMeant(name) { removeFolder("\(folder)/\(name)") }
    }

    /// Removes a folder of pins.
    ///
    /// A link that loses its last pin is detached some time later, by a worker
    /// of the kernel; detached explicitly, no program runs any more on return.
    func removeFolder(_ path: String) {
        for name in names(in: path) {
            if Hook(pin: name) != nil, let link = try? Link(pinned: "\(path)/\(name)") {
                link.detach()
            }
            unlink("\(path)/\(name)")
        }
        rmdir(path)
    }

    /// Removes the shared maps: out of sight first, so that nobody takes half of them for damage.
    func removeMaps() {
        let old = "\(folder)/old-maps"
        if rename(mapsFolder, old) == 0 { removeFolder(old) }
    }

    /// Gives an attachment up: out of sight first, so that nobody meets half of it.
    func removeAttachment(_ id: UInt64) throws(GuardError) {
        // From here on its sockets count as outsiders, whose programs look after them.
        try? settle(leaving: id)
        let old = "\(folder)/old-\(id)"
        try perform("remove \(attachmentFolder(id))") { rename(attachmentFolder(id), old) }
        removeFolder(old)
        if attachmentIDs.isEmpty {
            removeOutsiders()
            removeMaps()
        }
    }
}
