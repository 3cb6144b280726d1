// SPDX-License-Identifier: Apache-2.0
// Loading the BPF programs through libbpf.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardSockets

/// The hooks, by the name of their program and of their pinned link.
package enum Hook: String, CaseIterable, Sendable {
    // In the order of attaching: what is granted can be given back from the start.
    case release = "guard_release"
    case connect6 = "guard_connect6"
    case connect4 = "guard_connect4"
    case bind6 = "guard_bind6"
    case bind4 = "guard_bind4"
    // For TCP, where the cgroup has ports of its own.
    case ownRelease = "own_release"
    case ownConnect6 = "own_connect6"
    case ownConnect4 = "own_connect4"

    /// Those that a policy needs.
    static func needed(by policy: Policy) -> [Hook] {
        policy.ports == nil ? allCases.filter { !$0.isForOwnPorts } : allCases
    }

    private var isForOwnPorts: Bool {
        switch self {
        case .ownRelease, .ownConnect6, .ownConnect4: true
        case .release, .connect6, .connect4, .bind6, .bind4: false
        }
    }

    var attachType: bpf_attach_type {
        switch self {
        case .release, .ownRelease: BPF_CGROUP_INET_SOCK_RELEASE
        case .connect6, .ownConnect6: BPF_CGROUP_INET6_CONNECT
        case .connect4, .ownConnect4: BPF_CGROUP_INET4_CONNECT
        case .bind6: BPF_CGROUP_INET6_BIND
        case .bind4: BPF_CGROUP_INET4_BIND
        }
    }

    /// As bpftool and the kernel's documentation call it.
    package var title: String {
        switch self {
        case .release, .ownRelease: "sock_release"
        case .connect6, .ownConnect6: "connect6"
        case .connect4, .ownConnect4: "connect4"
        case .bind6: "bind6"
        case .bind4: "bind4"
        }
    }
}

/// The BPF objects that work on the guard's maps.
enum ProgramSet: Sendable {
    /// Attached to cgroups.
    case hooks
    /// Attached to the root, for sockets outside of all guarded cgroups.
    case outsiders
    /// Iterators that claim for sockets that exist already.
    case seed
    /// Iterators that drop what nobody stands behind.
    case sweep

    var object: (words: [UInt64], length: Int) {
        switch self {
        case .hooks: (guardObjectWords, guardObjectLength)
        case .outsiders: (outsidersObjectWords, outsidersObjectLength)
        case .seed: (seedObjectWords, seedObjectLength)
        case .sweep: (sweepObjectWords, sweepObjectLength)
        }
    }
}

/// What the kernel tells of a loaded program.
package struct ProgramInfo: Hashable, Sendable {
    package let hook: Hook
    package let id: UInt32
    /// A hash of its instructions, as bpftool shows it: 16 hexadecimal digits.
    package let tag: String

    init(hook: Hook, descriptor: Int32) throws(GuardError) {
        var info = bpf_prog_info()
        var length = UInt32(MemoryLayout<bpf_prog_info>.size)
        try perform("ask the kernel about a program") {
            bpf_obj_get_info_by_fd(descriptor, &info, &length)
        }
        self.hook = hook
        id = info.id
        tag = withUnsafeBytes(of: &info.tag) { bytes in
            bytes.map { byte in
                let digits = String(byte, radix: 16)
                return digits.count == 1 ? "0" + digits : digits
            }.joined()
        }
    }
}

/// The maps of the object: which are shared by all attachments, which are an attachment's own.
enum MapName: String, CaseIterable {
    case abi, buckets, groups
    case claimsMore = "claims_more"
    case socketRecords = "socket_records"
    case socketRecordsMore = "socket_records_more"
    case busy
    case busyTags = "busy_tags"
    case ids, usage, conflicts, events
    case guarded, strongest, sides, seeded
    case keptPorts = "kept_ports"
    case reservations, sources
    case counters
    case budget, connections
    case connectionOf = "connection_of"
    case policy = ".rodata"

    static let shared: [MapName] = [
        .abi, .buckets, .groups, .claimsMore, .socketRecords, .socketRecordsMore, .busy, .busyTags,
        .ids, .usage, .conflicts, .events, .guarded, .strongest, .sides, .seeded, .keptPorts,
        .reservations, .sources,
    ]
    /// An attachment's own, by which its connections are counted.
    static let counting: [MapName] = [.budget, .connections, .connectionOf]
    /// Those that have as many elements as there can be claims.
    static let sized: [MapName] = [.groups, .claimsMore, .socketRecordsMore]
    /// Elements of one of those.
    func elements(tableSize: Int) -> Int {
        // A claim may need two of them: its socket's record, and its tuple.
        self == .socketRecordsMore ? 2 * tableSize : tableSize
    }
    /// Those that a sweep goes over: claims first, as what is left of a socket then is its record.
    static let swept: [MapName] = [
        .buckets, .groups, .claimsMore, .socketRecords, .socketRecordsMore,
    ]
}

/// An object of libbpf, closed with its owner.
package struct BPFObject: ~Copyable {
    package let pointer: OpaquePointer

    /// Opens an embedded object; nothing is in the kernel yet.
    ///
    /// - Parameter name: what the kernel's listings of programs and maps show.
    package init(_ words: [UInt64], length: Int, name: String) throws(GuardError) {
        _ = LibbpfLog.install
        let object = words.withUnsafeBytes { bytes in
            name.withCString { name in
                var options = bpf_object_open_opts()
                options.sz = MemoryLayout<bpf_object_open_opts>.size
                options.object_name = name
                return bpf_object__open_mem(bytes.baseAddress, length, &options)
            }
        }
        guard let object else {
            throw .failed(
                what: "read the embedded BPF object", errno: .last, detail: LibbpfLog.takeDetail())
        }
        pointer = object
    }

    deinit {
        bpf_object__close(pointer)
    }
}

/// One of the guard's BPF objects, loaded into the kernel. Owns its programs and maps.
struct LoadedPrograms: ~Copyable {
    private let object: BPFObject

    /// Loads the programs of one object.
    ///
    /// - Parameters:
    ///   - policy: what the programs read; its `table_mask` must fit `tableSize`.
    ///   - tableSize: claims that maps made now have room for.
    ///   - pinned: gives the path of a map that exists already and is to be used, or nil.
    init(
        _ set: ProgramSet, policy: tg_policy, tableSize: Int, pinned: (MapName) -> String?
    ) throws(GuardError) {
        let object = try BPFObject(set.object.words, length: set.object.length, name: "tupleguard")
        let pointer = object.pointer
        try Self.prepareMaps(of: pointer, policy: policy, tableSize: tableSize, pinned: pinned)
        if set == .hooks {
            let needed = Hook.needed(by: Policy(fromPrograms: policy))
            for hook in Hook.allCases where !needed.contains(hook) {
                let program = bpf_object__find_program_by_name(pointer, hook.rawValue)
                bpf_program__set_autoload(program, false)
            }
        }
        try performByLibbpf("load the guard's programs into the kernel") {
            bpf_object__load(pointer)
        }
        self.object = object
    }

    private static func prepareMaps(
        of object: OpaquePointer, policy: tg_policy, tableSize: Int, pinned: (MapName) -> String?
    ) throws(GuardError) {
        for name in MapName.allCases {
            guard let map = bpf_object__find_map_by_name(object, name.rawValue) else { continue }
            if let path = pinned(name) {
                let existing = try BPFMap(pinned: path)
                // libbpf duplicates the descriptor.
                try performByLibbpf("use the map pinned at \(path)") {
                    bpf_map__reuse_fd(map, existing.descriptor.raw)
                }
            } else if name == .policy {
                var policy = policy
                try performByLibbpf("set the policy") {
                    bpf_map__set_initial_value(map, &policy, MemoryLayout<tg_policy>.size)
                }
            } else if name == .socketRecords || name == .buckets {
                try performByLibbpf("size the table") {
                    bpf_map__set_max_entries(map, policy.table_mask + 1)
                }
            } else if name == .connections || name == .connectionOf {
                let room = UInt32(ConnectionBudget.room(policy))
                try performByLibbpf("size the count of connections") {
                    bpf_map__set_max_entries(map, room)
                }
            } else if MapName.sized.contains(name) {
                let elements = UInt32(name.elements(tableSize: tableSize))
                try performByLibbpf("size the table") {
                    bpf_map__set_max_entries(map, elements)
                }
            }
        }
    }

    /// The descriptor of a program; it stays the object's.
    func program(_ name: String) -> Int32 {
        bpf_program__fd(bpf_object__find_program_by_name(object.pointer, name))
    }

    /// The descriptor of a map; it stays the object's.
    func map(_ name: MapName) -> Int32 { map(named: name.rawValue) }

    /// The same for a map that only this object has.
    func map(named name: String) -> Int32 {
        bpf_map__fd(bpf_object__find_map_by_name(object.pointer, name))
    }

    func info(_ hook: Hook) throws(GuardError) -> ProgramInfo {
        try ProgramInfo(hook: hook, descriptor: program(hook.rawValue))
    }
}
