// SPDX-License-Identifier: Apache-2.0
// The contract with the BPF programs: layouts as Swift sees them, and the
// embedded object, which says how the programs see them.

import CTupleguardLibbpf
import Glibc
import Testing
import TupleguardABI
import TupleguardSockets

@testable import TupleguardKernel

struct LayoutTests {
    @Test("The structs have the sizes that the programs' maps have")
    func sizes() {
        #expect(MemoryLayout<tg_abi_info>.size == 16)
        #expect(MemoryLayout<tg_group_key>.size == 24)
        #expect(MemoryLayout<tg_tuple>.size == 40)
        #expect(MemoryLayout<tg_process>.size == 32)
        #expect(MemoryLayout<tg_claim>.size == 48)
        #expect(MemoryLayout<tg_group>.size == 72)
        #expect(MemoryLayout<tg_further>.size == 56)
        #expect(MemoryLayout<tg_held>.size == 12)
        #expect(MemoryLayout<tg_socket_record>.size == 64)
        #expect(MemoryLayout<tg_record_key>.size == 16)
        #expect(MemoryLayout<tg_record_more>.size == 64)
        #expect(MemoryLayout<tg_busy>.size == 64 + 65536 / 8)
        #expect(MemoryLayout<tg_busy_tags>.size == 64 * 8)
        #expect(MemoryLayout<tg_event>.size == 144)
        #expect(MemoryLayout<tg_conflict>.size == 160)
        #expect(MemoryLayout<tg_counters>.size == 45 * 8)
        #expect(MemoryLayout<tg_budget>.size == 16)
        #expect(MemoryLayout<tg_connection>.size == 40)
        #expect(MemoryLayout<tg_side>.size == 24)
        #expect(MemoryLayout<tg_policy>.size == 88)
    }

    @Test("No struct ends in padding, which would be written to maps as it happens to be")
    func padding() {
        #expect(MemoryLayout<tg_group_key>.stride == MemoryLayout<tg_group_key>.size)
        #expect(MemoryLayout<tg_tuple>.stride == MemoryLayout<tg_tuple>.size)
        #expect(MemoryLayout<tg_event>.stride == MemoryLayout<tg_event>.size)
        #expect(MemoryLayout<tg_conflict>.stride == MemoryLayout<tg_conflict>.size)
        #expect(MemoryLayout<tg_policy>.stride == MemoryLayout<tg_policy>.size)
        #expect(MemoryLayout<tg_socket_record>.stride == MemoryLayout<tg_socket_record>.size)
    }

    @Test("A tuple begins like the key of its group, and ends with the local address")
    func tupleAndGroupKey() {
        typealias Tuple = MemoryLayout<tg_tuple>
        typealias Key = MemoryLayout<tg_group_key>
        #expect(Tuple.offset(of: \.netns) == Key.offset(of: \.netns))
        #expect(Tuple.offset(of: \.local_port) == Key.offset(of: \.local_port))
        #expect(Tuple.offset(of: \.remote_port) == Key.offset(of: \.remote_port))
        #expect(Tuple.offset(of: \.remote) == Key.offset(of: \.remote))
        #expect(Tuple.offset(of: \.local) == Key.size)

        let tuple = makeTuple()
        let key = tg_group_key(
            netns: tuple.netns, local_port: tuple.local_port, remote_port: tuple.remote_port,
            remote: tuple.remote)
        #expect(bytes(of: tuple).starts(with: bytes(of: key)))
    }

    @Test("A further claim is a group without its source")
    func groupAndFurther() throws {
        let word = try #require(MemoryLayout<tg_group>.offset(of: \.word))
        let claim = try #require(MemoryLayout<tg_group>.offset(of: \.claim))
        #expect(MemoryLayout<tg_group>.offset(of: \.source) == 0)
        #expect(MemoryLayout<tg_further>.offset(of: \.word) == 0)
        #expect(MemoryLayout<tg_further>.offset(of: \.claim) == claim - word)
        #expect(MemoryLayout<tg_further>.size == MemoryLayout<tg_group>.size - word)

        var group = tg_group()
        group.word = 0x1122_3344_5566_7788
        group.claim.cookie = 1
        group.claim.sock = 2
        group.claim.time_ns = 3
        group.claim.pid = 4
        group.claim.comm = makeProcess().comm
        let further = tg_further(word: group.word, claim: group.claim)
        #expect(Array(bytes(of: group)[word...]) == bytes(of: further))
    }

    @Test("The bits of a group's word do not overlap")
    func word() {
        let parts = [
            UInt64(TG_WORD_FURTHER), UInt64(TG_WORD_INLINE), UInt64(TG_WORD_REFRESHED),
            UInt64(TG_WORD_SHARED),
            UInt64.max << UInt64(TG_WORD_ID_SHIFT),
        ]
        #expect(parts.reduce(0, |) == .max)
        #expect(parts.map(\.nonzeroBitCount).reduce(0, +) == 64)
    }

    @Test("A record holds every thread id and every generation of a bucket")
    func held() {
        var held = tg_held()
        held.generation = UInt32(UInt64.max >> UInt64(TG_BUCKET_GENERATION_SHIFT))
        #expect(UInt64(held.generation) == .max >> UInt64(TG_BUCKET_GENERATION_SHIFT))
        #expect(held.kind == 0)
        held.kind = UInt32(TG_HELD_BY_TUPLE.rawValue)
        #expect(held.kind == 2)
        held.thread = 1 << 22  // PID_MAX_LIMIT
        #expect(held.thread == 1 << 22)
        let record = tg_socket_record()
        #expect(MemoryLayout.size(ofValue: record.held) == Int(TG_SOCKET_CLAIMS) * 12)
    }
}

/// The embedded object, opened but not loaded, for which no privilege is needed.
struct OpenedObject: ~Copyable {
    let pointer: OpaquePointer

    init(_ set: ProgramSet = .hooks) throws {
        _ = LibbpfLog.install
        let (words, length) = set.object
        pointer = try #require(
            words.withUnsafeBytes { bpf_object__open_mem($0.baseAddress, length, nil) })
    }

    deinit {
        bpf_object__close(pointer)
    }

    func map(_ name: MapName) -> OpaquePointer? {
        bpf_object__find_map_by_name(pointer, name.rawValue)
    }

    func keySize(_ name: MapName) -> UInt32? { map(name).map { bpf_map__key_size($0) } }

    func valueSize(_ name: MapName) -> UInt32? { map(name).map { bpf_map__value_size($0) } }
}

struct EmbeddedObjectTests {
    @Test(
        "Every program that is loaded by name is in its object, and no other",
        arguments: [
            (.hooks, Hook.allCases.map(\.rawValue)), (.outsiders, Hook.outer.map(\.outerName)),
            (.seed, ["seed_tasks", "seed_files", "seed_sockets"]),
            (.sweep, MapName.swept.map { "sweep_\($0.rawValue)" }),
        ] as [(ProgramSet, [String])])
    func programs(set: ProgramSet, names: [String]) throws {
        let object = try OpenedObject(set)
        var found: Set<String> = []
        var program = bpf_object__next_program(object.pointer, nil)
        while let current = program {
            found.insert(String(cString: bpf_program__name(current)))
            program = bpf_object__next_program(object.pointer, current)
        }
        #expect(found == Set(names))
    }

    @Test("Every hook's program expects to be attached there", arguments: Hook.allCases)
    func attachTypes(hook: Hook) throws {
        let object = try OpenedObject()
        let program = bpf_object__find_program_by_name(object.pointer, hook.rawValue)
        let type = try #require(program.map { bpf_program__expected_attach_type($0) })
        #expect(type == hook.attachType)
    }

    @Test("The object's maps are those that the guard knows")
    func maps() throws {
        let object = try OpenedObject()
        var found: Set<String> = []
        var map = bpf_object__next_map(object.pointer, nil)
        while let current = map {
            found.insert(String(cString: bpf_map__name(current)))
            map = bpf_object__next_map(object.pointer, current)
        }
        // libbpf names sections of the object after it: "guard_bp.rodata".
        let own = Set(MapName.allCases.map(\.rawValue)).subtracting([MapName.policy.rawValue])
        let others = found.subtracting(own)
        #expect(own.isSubset(of: found), "missing: \(own.subtracting(found))")
        #expect(others.count == 1 && others.first?.hasSuffix(".rodata") == true, "also: \(others)")
        let policy = object.map(.policy)
        #expect(policy != nil)
    }

    @Test("Every map's elements have the size of the struct that is read from them")
    func elements() throws {
        func size<T>(_: T.Type) -> UInt32 { UInt32(MemoryLayout<T>.size) }
        let object = try OpenedObject()
        let expected: [(MapName, key: UInt32, value: UInt32)] = [
            (.abi, 4, size(tg_abi_info.self)),
            (.groups, size(tg_group_key.self), size(tg_group.self)),
            (.claimsMore, size(tg_tuple.self), size(tg_further.self)),
            (.buckets, 4, size(tg_bucket.self)),
            (.socketRecords, 4, size(tg_socket_record.self)),
            (.socketRecordsMore, size(tg_record_key.self), size(tg_record_more.self)),
            (.busy, 4, size(tg_busy.self)),
            (.busyTags, 4, size(tg_busy_tags.self)),
            (.ids, 4, 8),
            (.usage, 4, size(tg_usage.self)),
            (.conflicts, size(tg_tuple.self), size(tg_conflict.self)),
            (.events, 0, 0),
            (.guarded, 8, size(tg_side.self)),
            (.strongest, 4, size(tg_side.self)),
            (.sides, 8, size(tg_side.self)),
            (.seeded, 4, 8),
            (.keptPorts, 4, size(tg_kept_ports.self)),
            (.reservations, 4, size(tg_reservation.self)),
            (.sources, 4, size(tg_source.self)),
            (.budget, 4, size(tg_budget.self)),
            (.connections, 4, size(tg_connection.self)),
            (.connectionOf, 8, 4),
            (.counters, 4, size(tg_counters.self)),
            (.policy, 4, size(tg_policy.self)),
        ]
        #expect(Set(expected.map(\.0)) == Set(MapName.allCases))
        for (name, key, value) in expected {
            let keySize = object.keySize(name)
            let valueSize = object.valueSize(name)
            #expect(keySize == key, "\(name)")
            #expect(valueSize == value, "\(name)")
        }
    }

    @Test("A map is either shared or an attachment's own")
    func sharing() {
        let own = Set([.counters, .policy] + MapName.counting)
        #expect(Set(MapName.shared).union(own) == Set(MapName.allCases))
        #expect(Set(MapName.shared).isDisjoint(with: own))
        #expect(Set(MapName.sized).isSubset(of: MapName.shared))
    }

    @Test("libbpf's complaint becomes the detail of an error, once, and not a line on stderr")
    func complaint() async {
        await #expect(processExitsWith: .success) {
            _ = LibbpfLog.install
            _ = LibbpfLog.takeDetail()
            let garbage = [UInt8](repeating: 0x2a, count: 4096)
            let object = garbage.withUnsafeBytes {
                bpf_object__open_mem($0.baseAddress, $0.count, nil)
            }
            #expect(object == nil)
            // A system call that fails afterwards has nothing to do with it.
            let unrelated = GuardError.failed(
                what: "open the moon", errno: Errno(ENOENT), detail: "")
            #expect(throws: unrelated) {
                try perform("open the moon") { open("/proc/that-is-not-there", O_RDONLY) }
            }
            let detail = LibbpfLog.takeDetail()
            #expect(detail.hasPrefix("libbpf says: "), "\(detail)")
            #expect(!detail.contains("\n"))
            #expect(LibbpfLog.takeDetail() == "")
        }
    }
}
