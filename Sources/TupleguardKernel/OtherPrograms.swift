// SPDX-License-Identifier: Apache-2.0
// Other programs on connect(): they can give a socket another destination than
// the one that the guard has seen, or is going to see.

import CTupleguardLibbpf
import Glibc
package import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// A program of somebody else on one of the guard's hooks.
package struct OtherProgram: Hashable, Sendable {
    /// "connect4" or "connect6"
    package let hook: String
    package let id: UInt32
    package let name: String
    /// The cgroup that it is attached to.
    package let cgroup: String
    /// Whether it runs after the guard, which then does not see what it does.
    package let runsAfter: Bool

    /// One sentence for people: what it means for the guard of `path`, and what to do.
    package func remark(guarding path: String) -> String {
        let what = "program \(id) (\(name)) on \(hook) of \(cgroup)"
        if !runsAfter {
            return "\(what) runs before the guard, which sees any destination that it rewrites"
        }
        let remedy =
            cgroup == path
            ? "to put the guard behind it use: tupleguard attach --replace \(path)"
            : "attach the guard to \(cgroup) instead, or that program with BPF_F_PREORDER"
        return
            "\(what) runs after the guard of \(path), which does not see any destination that it rewrites: \(remedy)"
    }
}

extension GuardState {
    /// The programs that run before or after the guard of a cgroup: its own, those of the cgroups
    /// above it, and those of the cgroups below.
    package func otherPrograms(of cgroup: Cgroup) throws -> [OtherProgram] {
        var found: Set<OtherProgram> = []
        // There may be thousands.
        let folders = CgroupLineage.folders(over: cgroup) + CgroupLineage.folders(below: cgroup)
        for hook in [Hook.connect4, .connect6] {
            let link = try Link(pinned: "\(attachmentFolder(cgroup.id))/\(hook.rawValue)")
            let ours = link.programID
            for folder in folders {
                found.formUnion(try Self.others(at: folder, than: ours, seenFrom: cgroup, hook))
            }
        }
        return found.sorted { ($0.cgroup, $0.hook, $0.id) < ($1.cgroup, $1.hook, $1.id) }
    }

    /// Those attached at `folder`, with their place in the order in which the kernel runs them.
    private static func others(
        at folder: String, than ours: UInt32, seenFrom cgroup: Cgroup, _ hook: Hook
    ) throws -> [OtherProgram] {
        // Most have none, and there may be thousands. One may vanish while we look.
        guard let own = try? AttachedPrograms(folder: folder, hook), !own.ids.isEmpty,
            let there = try? Cgroup(folder, in: CgroupHierarchy()),
            // What a socket of the lower one of the two cgroups meets.
            let order = try? AttachedPrograms(
                at: folder.count > cgroup.folder.count ? there : cgroup, hook, inForce: true
            ).ids,
            let place = order.firstIndex(of: ours)
        else { return [] }
        return own.ids.compactMap { id in
            guard id != ours, let name = AttachedPrograms.name(of: id), !isAGuards(name) else {
                return nil
            }
            return OtherProgram(
                hook: hook.title, id: id, name: name, cgroup: there.path,
                runsAfter: order.firstIndex(of: id).map { $0 > place } ?? false)
        }
    }

    /// Guards, this one's other attachments among them, send nobody elsewhere.
    private static func isAGuards(_ name: String) -> Bool { Hook(pin: name) != nil }

    /// Gives a pinned link another program, atomically.
    ///
    /// Where somebody else's program of the same cgroup runs after it, a new link takes its place:
    /// the kernel runs the programs of a cgroup in the order of attaching, so that it is the last.
    /// For a moment both run, and the second finds the claim of the first, which is the socket's.
    func putInPlace(
        _ program: Int32, at hook: Hook, of cgroup: Cgroup, pin path: String
    ) throws(GuardError) {
        let link = try Link(pinned: path)
        let order = try AttachedPrograms(at: cgroup, hook).ids
        let behind = order.drop { $0 != link.programID }.dropFirst()
        let isFollowed = behind.contains { id in
            AttachedPrograms.name(of: id).map { !Self.isAGuards($0) } ?? false
        }
        guard isFollowed, hook == .connect4 || hook == .connect6 else {
            return try link.update(to: program, at: hook)
        }
        let last = try Link(attaching: program, to: cgroup, at: hook)
        let temporary = path + "_last"
        unlink(temporary)
        try last.pin(temporary)
        try perform("replace the link \(path)") { rename(temporary, path) }
        link.detach()
    }
}

extension GuardState {
    /// What is to be known of a guarded cgroup, for people: a sentence for each program that may
    /// send sockets elsewhere afterwards, and for what keeps outsiders from being seen.
    package func remarks(on cgroup: Cgroup) throws -> [String] {
        try remarks(on: cgroup, attachments().first { $0.id == cgroup.id })
    }

    private func remarks(on cgroup: Cgroup, _ own: Attachment?) throws -> [String] {
        var remarks: [String] = []
        if let own, own.policy.outsiders != .ignore, let obstacle = try obstacleAtRoot() {
            let what = own.looksUp ? "looked up one by one" : "not seen"
            remarks.append("sockets outside are \(what): \(obstacle)")
        }
        return remarks
            + (try otherPrograms(of: cgroup)).filter(\.runsAfter)
            .map { $0.remark(guarding: cgroup.path) }
    }

    /// The same of several, each once.
    package func remarks(on attachments: [Attachment]) throws -> [String] {
        let hierarchy = try CgroupHierarchy()
        var found: Set<String> = []
        for attachment in attachments {
            // It may vanish while we look.
            guard let path = attachment.path, let cgroup = try? Cgroup(path, in: hierarchy),
                let remarks = try? remarks(on: cgroup, attachment)
            else { continue }
            found.formUnion(remarks)
        }
        return found.sorted()
    }

    /// The connect programs of others around an attachment; none where its cgroup is gone.
    package func surroundings(of attachment: Attachment) -> [OtherProgram] {
        guard let path = attachment.path, let hierarchy = try? CgroupHierarchy(),
            let cgroup = try? Cgroup(hierarchy.mountPoint + path, in: hierarchy)
        else { return [] }
        return (try? otherPrograms(of: cgroup)) ?? []
    }
}

/// The programs on one hook of one cgroup.
struct AttachedPrograms {
    /// BPF_CGROUP_MAX_PROGS: programs that a cgroup may have on one hook.
    static let limit = 64

    let ids: [UInt32]
    /// Whether it was attached so that none may be added.
    let toleratesNoOther: Bool

    /// - Parameter inForce: those of the cgroups above too, in the order in which they run.
    init(at cgroup: Cgroup, _ hook: Hook, inForce: Bool = false) throws(GuardError) {
        try self.init(folder: cgroup.folder, hook, inForce: inForce)
    }

    init(folder: String, _ hook: Hook, inForce: Bool = false) throws(GuardError) {
        // Every level may have as many as one cgroup may.
        var ids = [UInt32](repeating: 0, count: 32 * Self.limit)
        var count = UInt32(ids.count)
        var flags: UInt32 = 0
        do {
            let target = try OwnedDescriptor(path: folder, flags: O_RDONLY | O_DIRECTORY)
            try Errno.check {
                bpf_prog_query(
                    target.raw, hook.attachType, inForce ? UInt32(BPF_F_QUERY_EFFECTIVE) : 0,
                    &flags, &ids, &count)
            }
        } catch {
            throw .failed(
                what: "ask which programs \(folder) has on \(hook.title)", errno: error, detail: "")
        }
        self.ids = Array(ids.prefix(Int(count)))
        toleratesNoOther = count > 0 && !inForce && flags & UInt32(BPF_F_ALLOW_MULTI) == 0
    }

    /// The first of them, for people.
    var description: String {
        ids.first.map { "program \($0) (\(Self.name(of: $0) ?? "gone meanwhile"))" } ?? "no program"
    }

    /// The name of a program; nil when it is gone.
    static func name(of id: UInt32) -> String? {
        let raw = bpf_prog_get_fd_by_id(id)
        guard raw >= 0 else { return nil }
        let program = OwnedDescriptor(taking: raw)
        var info = bpf_prog_info()
        var length = UInt32(MemoryLayout<bpf_prog_info>.size)
        guard bpf_obj_get_info_by_fd(program.raw, &info, &length) == 0 else { return nil }
        return withUnsafeBytes(of: &info.name) { commandName($0) }
    }
}

/// Cgroups over and below another, as folders.
enum CgroupLineage {
    /// From the cgroup itself up to the root.
    static func folders(over cgroup: Cgroup) -> [String] {
        guard cgroup.folder.hasSuffix(cgroup.path) else { return [cgroup.folder] }
        let mount = cgroup.folder.dropLast(cgroup.isRoot ? 0 : cgroup.path.count)
        var folders = [cgroup.folder]
        while let folder = folders.last, folder.count > mount.count,
            let slash = folder.lastIndex(of: "/")
        {
            folders.append(String(folder[..<slash]))
        }
        return folders
    }

    /// All that are below it, at any depth.
    static func folders(below cgroup: Cgroup) -> [String] {
        var folders: [String] = []
        var rest = [cgroup.folder]
        while let folder = rest.popLast() {
            let children = names(in: folder, onlyFolders: true).map { "\(folder)/\($0)" }
            folders += children
            rest += children
        }
        return folders
    }
}
