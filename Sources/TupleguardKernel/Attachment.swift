// SPDX-License-Identifier: Apache-2.0
// Attaching the guard to cgroups, and telling where it is attached.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
package import TupleguardLinux
package import TupleguardRecords
import TupleguardSockets

/// A cgroup's guard, as it is pinned.
package struct Attachment: Sendable {
    /// The cgroup's id.
    package let id: UInt64
    /// Its path in the hierarchy; nil when the cgroup exists no more.
    package let path: String?
    /// Whether all of its programs are on their hooks: they are not once the cgroup is gone, nor
    /// when somebody took one off by force.
    package let isAttached: Bool
    package let policy: Policy
    /// Whether sockets outside the cgroup are looked for: what `policy.lookUp` came to.
    package let looksUp: Bool
    /// When the guard was attached, or its policy last replaced.
    package let since: Timestamp
    package let programs: [ProgramInfo]
}

extension GuardState {
    /// All attachments, also those whose cgroup is gone.
    package func attachments() throws -> [Attachment] {
        _ = try readABI()
        let hierarchy = try CgroupHierarchy()
        return try attachmentIDs.compactMap { try attachment($0, in: hierarchy) }
    }

    /// One attachment; nil when it was removed meanwhile.
    func attachment(_ id: UInt64, in hierarchy: CgroupHierarchy) throws(GuardError) -> Attachment? {
        let folder = attachmentFolder(id)
        do throws(GuardError) {
            let map = try BPFMap(pinned: "\(folder)/policy")
            guard let policy = map.element(0, as: tg_policy.self) else {
                throw .damagedState(path: folder, why: "its policy has another size")
            }
            try check(
                .counters, at: "\(folder)/counters", try MapShape.all(tableSize: 64, buckets: nil))
            try checkCount(in: folder)
            var programs: [ProgramInfo] = []
            var isAttached = true
            for hook in Hook.needed(by: Policy(fromPrograms: policy)).reversed() {
                let link = try Link(pinned: "\(folder)/\(hook.rawValue)")
                try link.requireHook(hook, at: folder)
                programs.append(try link.program(of: hook))
                isAttached = isAttached && link.cgroupID == id
            }
            return Attachment(
                id: id, path: isAttached ? hierarchy.path(of: id) : nil, isAttached: isAttached,
                policy: Policy(fromPrograms: policy), looksUp: policy.look_up != 0,
                since: Timestamp(nanosecondsSince1970: policy.attached_ns),
                programs: programs)
        } catch {
            if access(folder, F_OK) != 0 { return nil }
            throw error
        }
    }

    /// Attaches the guard to a cgroup and pins it.
    ///
    /// - Parameters:
    ///   - tableSize: claims that the table has room for; nil takes what is
    ///     there, or `Policy.defaultTableSize`. Fixed by the first attachment.
    ///   - replacing: give an existing attachment this policy and this version's
    ///     programs, with no moment in which connects go unguarded.
    /// - Throws: `GuardError`; nothing is left attached then.
    package func attach(
        _ cgroup: Cgroup, policy: Policy, tableSize: Int? = nil, replacing: Bool = false
    ) throws {
        try Platform.check()
        if let tableSize, !GuardError.tableSizes.contains(tableSize) {
            throw GuardError.tableSize(tableSize)
        }
        try changing {
            let hasState = exists || !attachmentIDs.isEmpty
            let existing = hasState ? Int(try readABI().table_size) : nil
            if let existing, let tableSize, existing != tableSize {
                throw GuardError.tableSizeFixed(existing: existing, asked: tableSize)
            }
            let isAttached = access(attachmentFolder(cgroup.id), F_OK) == 0
            if isAttached && !replacing { throw GuardError.alreadyAttached(path: cgroup.path) }
            if existing != nil { try requirePorts(policy.ports, for: [cgroup.id]) }
            let size = existing ?? tableSize ?? Policy.defaultTableSize
            let programs = try loadHooks(
                for: cgroup, policy: policy, tableSize: size, keepingCounters: isAttached)
            if isAttached {
                try replace(cgroup, with: programs, policy)
                try settle(renewing: true)
            } else {
                try attachAnew(
                    cgroup, programs, policy, makingMapsOf: existing == nil ? size : nil)
            }
        }
    }

    /// - Parameter cgroups: whose ports they are to be; what these have now does not matter.
    /// - Throws: `portsTaken` where another guarded cgroup has some of them for its own.
    package func requirePorts(_ ports: ClosedRange<UInt16>?, for cgroups: Set<UInt64>) throws {
        guard let ports else { return }
        for other in try attachments() where other.isAttached && !cgroups.contains(other.id) {
            guard let theirs = other.policy.ports, theirs.overlaps(ports) else { continue }
            throw GuardError.portsTaken(
                asked: ports, path: other.path ?? "cgroup \(other.id)", has: theirs)
        }
    }

    /// What `error` comes from where the kernel had no memory for the tables: it takes them from
    /// our memory cgroups, and refuses with a bare ENOMEM.
    private func explained(_ error: GuardError, tableSize: Int) -> GuardError {
        guard case .failed(_, Errno(ENOMEM), _) = error, let hierarchy = try? CgroupHierarchy(),
            let limit = MemoryLimit.narrowest(in: hierarchy),
            let shapes = try? MapShape.all(tableSize: tableSize, buckets: fewBuckets)
        else { return error }
        let needed = shapes.values.reduce(0) { $0 + $1.memory }
        return .memoryLimit(cgroup: limit.cgroup, limit: limit.bytes, needed: needed)
    }

    /// The programs for one cgroup, on the shared maps where those exist.
    func loadHooks(
        for cgroup: Cgroup, policy: Policy, tableSize: Int, keepingCounters: Bool
    ) throws -> LoadedPrograms {
        var values = policy.forPrograms(
            cgroup: cgroup, buckets: fewBuckets ?? Self.buckets(for: tableSize),
            looksUp: try looksUp(policy, for: cgroup))
        let keepsCount = keepingCounters ? try keepCount(of: cgroup, for: &values) : false
        let sharedExist = exists
        do {
            return try LoadedPrograms(.hooks, policy: values, tableSize: tableSize) { name in
                if name == .counters && keepingCounters {
                    return "\(attachmentFolder(cgroup.id))/counters"
                }
                if MapName.counting.contains(name) && keepsCount {
                    return "\(attachmentFolder(cgroup.id))/\(name.rawValue)"
                }
                return sharedExist && MapName.shared.contains(name) ? map(name) : nil
            }
        } catch {
            throw explained(error, tableSize: tableSize)
        }
    }

    /// What the policy's `lookUp` comes to for a cgroup; throws where outsiders can't be refused.
    private func looksUp(_ policy: Policy, for cgroup: Cgroup) throws -> Bool {
        if policy.outsiders == .ignore || cgroup.isRoot { return policy.lookUp == .on }
        guard let why = try obstacleAtRoot() else { return policy.lookUp == .on }
        if policy.outsiders == .refuse { throw GuardError.outsidersOutOfReach(why: why) }
        return policy.lookUp != .off
    }

    /// Elements of the arrays of buckets and of socket records: a power of two.
    static func buckets(for tableSize: Int) -> Int {
        1 << (Int.bitWidth - (tableSize - 1).leadingZeroBitCount)
    }

    private func attachAnew(
        _ cgroup: Cgroup, _ programs: borrowing LoadedPrograms, _ policy: Policy,
        makingMapsOf size: Int?
    ) throws {
        let temporary = "\(folder)/new-\(cgroup.id)"
        do {
            if let size {
                let maps = "\(folder)/new-maps"
                try pinSharedMaps(of: programs, tableSize: size, in: maps)
                try perform("move \(maps) into place") { rename(maps, mapsFolder) }
            }
            try pin(programs, Hook.needed(by: policy), of: cgroup, in: temporary)
            try perform("move \(temporary) into place") {
                rename(temporary, attachmentFolder(cgroup.id))
            }
            try settle()
        } catch {
            removeFolder(temporary)
            removeFolder("\(folder)/new-maps")
            if access(attachmentFolder(cgroup.id), F_OK) == 0 {
                try? removeAttachment(cgroup.id)
            } else if size != nil {
                removeMaps()
            }
            throw error
        }
    }

    /// Attaches programs to a cgroup, with their pins in a new folder.
    func pin(
        _ programs: borrowing LoadedPrograms, _ hooks: [Hook], of cgroup: Cgroup,
        in folder: String
    ) throws(GuardError) {
        try perform("make the folder \(folder)") { mkdir(folder, 0o750) }
        let policy = programs.map(.policy)
        let counters = programs.map(.counters)
        try perform("pin the policy") { bpf_obj_pin(policy, "\(folder)/policy") }
        try perform("pin the counters") { bpf_obj_pin(counters, "\(folder)/counters") }
        for name in MapName.counting {
            let map = programs.map(name)
            try perform("pin map \(name)") { bpf_obj_pin(map, "\(folder)/\(name.rawValue)") }
        }
        for hook in hooks {
            let link = try Link(attaching: programs.program(hook.rawValue), to: cgroup, at: hook)
            try link.pin("\(folder)/\(hook.rawValue)")
        }
    }

    /// Swaps the programs of each link; connects meet either the old or the new ones.
    private func replace(
        _ cgroup: Cgroup, with programs: borrowing LoadedPrograms, _ policy: Policy
    ) throws {
        let folder = attachmentFolder(cgroup.id)
        let needed = Hook.needed(by: policy)
        for hook in needed {
            let pin = "\(folder)/\(hook.rawValue)"
            let program = programs.program(hook.rawValue)
            if access(pin, F_OK) == 0 {
                try putInPlace(program, at: hook, of: cgroup, pin: pin)
            } else {
                try Link(attaching: program, to: cgroup, at: hook).pin(pin)
            }
        }
        for name in MapName.counting {
            try repin(programs.map(name), name.rawValue, in: folder)
        }
        try repin(programs.map(.policy), "policy", in: folder)
        for hook in Hook.allCases where !needed.contains(hook) {
            let pin = "\(folder)/\(hook.rawValue)"
            if let link = try? Link(pinned: pin) { link.detach() }
            unlink(pin)
        }
    }

    /// Puts a pin in the place of another, with no moment without one.
    private func repin(_ map: Int32, _ name: String, in folder: String) throws(GuardError) {
        unlink("\(folder)/new-\(name)")
        try perform("pin map \(name)") { bpf_obj_pin(map, "\(folder)/new-\(name)") }
        try perform("replace the pin of map \(name)") {
            rename("\(folder)/new-\(name)", "\(folder)/\(name)")
        }
    }

    /// Gives an existing attachment this version's programs, if they differ from its own.
    ///
    /// - Returns: whether they did.
    @discardableResult
    package func upgrade(_ attachment: Attachment, of cgroup: Cgroup) throws -> Bool {
        try changing {
            let size = Int(try readABI().table_size)
            let programs = try loadHooks(
                for: cgroup, policy: attachment.policy, tableSize: size, keepingCounters: true)
            var differs = false
            for hook in Hook.needed(by: attachment.policy) {
                let tag = try programs.info(hook).tag
                let old = attachment.programs.first { $0.hook == hook }?.tag
                differs = differs || tag != old
            }
            if differs { try replace(cgroup, with: programs, attachment.policy) }
            try settle(renewing: differs)
            return differs
        }
    }

    /// Takes the guard off a cgroup. With the last one the shared maps go too.
    package func detach(_ id: UInt64, path: String) throws {
        try Platform.requireCapabilities()
        guard exists else { throw GuardError.noGuard(path: folder) }
        try changing {
            guard access(attachmentFolder(id), F_OK) == 0 else {
                throw GuardError.notAttached(path: path)
            }
            try removeAttachment(id)
        }
    }

    /// Takes the guard off every cgroup and removes the whole state, whatever version made it.
    ///
    /// Only what a guard pins is removed; anything else in the folder is left and named.
    package func detachAll() throws {
        try Platform.requireCapabilities()
        guard access(folder, F_OK) == 0 else { throw GuardError.noGuard(path: folder) }
        try changing {
            removeOutsiders()
            // Out of sight first, so that nobody takes half of it for damage.
            for name in names(in: folder) where name.hasPrefix("cgroup-") || name == "maps" {
                let old = "\(folder)/old-\(name)"
                if rename("\(folder)/\(name)", old) == 0 { removeFolder(old) }
            }
            let foreign = names(in: folder)
            if !foreign.isEmpty {
                throw GuardError.damagedState(
                    path: folder,
                    why: "it also holds \(foreign.joined(separator: ", ")), left in place")
            }
        }
    }
}

/// A BPF link: the attachment of one program to one cgroup.
package struct Link: ~Copyable {
    private let descriptor: OwnedDescriptor
    /// 0 once the cgroup is gone.
    let cgroupID: UInt64
    let programID: UInt32
    private let attachType: UInt32

    init(pinned path: String) throws(GuardError) {
        let raw = try perform("open the link pinned at \(path)") { bpf_obj_get(path) }
        try self.init(taking: raw)
    }

    package init(attaching program: Int32, to cgroup: Cgroup, at hook: Hook) throws(GuardError) {
        let raw: Int32
        do {
            let target = try OwnedDescriptor(path: cgroup.folder, flags: O_RDONLY | O_DIRECTORY)
            raw = try Errno.check { bpf_link_create(program, target.raw, hook.attachType, nil) }
        } catch {
            if let other = Self.programInTheWay(of: hook, at: cgroup) {
                throw .programInTheWay(hook: hook, program: other.name, path: other.folder)
            }
            throw .failed(
                what: "attach \(hook.title) to \(cgroup.path)", errno: error, detail: "")
        }
        try self.init(taking: raw)
    }

    private init(taking raw: Int32) throws(GuardError) {
        let descriptor = OwnedDescriptor(taking: raw)
        var info = bpf_link_info()
        var length = UInt32(MemoryLayout<bpf_link_info>.size)
        try perform("ask the kernel about a link") {
            bpf_obj_get_info_by_fd(raw, &info, &length)
        }
        self.descriptor = descriptor
        programID = info.prog_id
        cgroupID = info.cgroup.cgroup_id
        attachType = info.cgroup.attach_type
    }

    /// - Parameter folder: where it is pinned.
    func requireHook(_ hook: Hook, at folder: String) throws(GuardError) {
        guard attachType == hook.attachType.rawValue else {
            throw .damagedState(
                path: "\(folder)/\(hook.rawValue)", why: "that link is on another hook")
        }
    }

    /// Takes the program off the hook; a link whose cgroup is gone is off already.
    package func detach() {
        _ = bpf_link_detach(descriptor.raw)
    }

    func pin(_ path: String) throws(GuardError) {
        try perform("pin a link at \(path)") { bpf_obj_pin(descriptor.raw, path) }
    }

    func program(of hook: Hook) throws(GuardError) -> ProgramInfo {
        let program = OwnedDescriptor(
            taking: try perform("open program \(programID)") { bpf_prog_get_fd_by_id(programID) })
        return try ProgramInfo(hook: hook, descriptor: program.raw)
    }

    /// Swaps the program, atomically.
    ///
    /// The kernel takes a connect6 program for a connect4 link without a word,
    /// so the link's own attach type is checked here.
    func update(to program: Int32, at hook: Hook) throws(GuardError) {
        guard attachType == hook.attachType.rawValue else {
            throw .damagedState(path: hook.rawValue, why: "that link is on another hook")
        }
        try perform("replace the program on \(hook.title)") {
            bpf_link_update(descriptor.raw, program, nil)
        }
    }

    /// The first program on a cgroup or above it that tolerates no other.
    private static func programInTheWay(
        of hook: Hook, at cgroup: Cgroup
    ) -> (name: String, folder: String)? {
        for folder in CgroupLineage.folders(over: cgroup) {
            guard let there = try? AttachedPrograms(folder: folder, hook) else { return nil }
            if there.toleratesNoOther { return (there.description, folder) }
        }
        return nil
    }
}
