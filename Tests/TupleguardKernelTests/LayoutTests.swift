// SPDX-License-Identifier: Apache-2.0
// Where each member of the shared structs is: in the compiled programs (BTF), to Swift, and when
// the ABI got its number.

import CTupleguardLibbpf
import Testing
import TupleguardABI

@testable import TupleguardKernel

/// A struct's members, with their offsets in bits.
private struct Layout: CustomStringConvertible {
    struct Member {
        let name: String
        let bit: Int
    }
    var members: [Member] = []
    var size = 0

    /// "cookie@0 sock@8": in bytes, or bytes and bits.
    var description: String {
        members.map { member in
            let bits = member.bit % 8 == 0 ? "" : ".\(member.bit % 8)"
            return "\(member.name)@\(member.bit / 8)\(bits)"
        }.joined(separator: " ")
    }

    /// As clang compiled it into the programs; without members if they have no such struct.
    init(named name: String, in object: OpaquePointer) {
        guard let types = bpf_object__btf(object) else { return }
        let id = btf__find_by_name_kind(types, name, UInt32(BTF_KIND_STRUCT))
        guard id > 0, let type = btf__type_by_id(types, UInt32(id)) else { return }
        size = Int(type.pointee.size)
        let hasBitFields = type.pointee.info >> 31 != 0
        let count = Int(type.pointee.info & 0xffff)
        // A struct's members follow it.
        let first = UnsafeRawPointer(type + 1).assumingMemoryBound(to: btf_member.self)
        for member in UnsafeBufferPointer(start: first, count: count) {
            let bit = hasBitFields ? member.offset & 0xff_ffff : member.offset
            let label = String(cString: btf__name_by_offset(types, member.name_off))
            members.append(Member(name: label, bit: Int(bit)))
        }
    }
}

struct MemberTests {
    /// Structs of the pinned maps and of the ring buffer.
    ///
    /// Programs of another version read these. When one of them changes, TG_ABI changes with it,
    /// and so does this.
    private static let abi: UInt32 = 4
    private static let pinned: [(name: String, members: String)] = [
        ("tg_abi_info", "magic@0 abi@4 table_size@8 reserved@12"),
        ("tg_group_key", "netns@0 local_port@4 remote_port@6 remote@8"),
        ("tg_tuple", "netns@0 local_port@4 remote_port@6 remote@8 local@24"),
        ("tg_claim", "cookie@0 sock@8 time_ns@16 pid@24 reserved@28 comm@32"),
        ("tg_group", "source@0 word@16 claim@24"),
        ("tg_bucket", "control@0 key@8 group@32 reserved@104"),
        ("tg_further", "word@0 claim@8"),
        ("tg_held", "bucket@0 generation@4 kind@7.2 thread@8"),
        ("tg_socket_record", "cookie@0 sock@8 displaced@16 held@20 reserved@56"),
        ("tg_record_key", "cookie@0 index@8"),
        ("tg_reservation", "id@0 hash@8 sock@16 cookie@24"),
        ("tg_source", "hash@0 sock@8 cookie@16 address@24 reserved@56"),
        ("tg_process", "cgroup@0 pid@8 uid@12 comm@16"),
        (
            "tg_event",
            """
            time_ns@0 attachment@8 reason@16 allowed@20 protocol@22 tuple@24 claimant@64 \
            claimant_cookie@96 holder@104 holder_cookie@136
            """
        ),
        ("tg_conflict", "count@0 first_ns@8 last@16"),
        (
            "tg_counters",
            """
            claimed@0 reclaimed@8 released@16 pruned@24 taken_over@32 refused_held@40 \
            refused_in_flight@48 refused_ambiguous@56 refused_outside@64 \
            refused_table_full@72 refused_busy@80 refused_exhausted@88 refused_unlocked@96 \
            refused_outsider@104 refused_rewritten@112 refused_exhausted_tcp@120 \
            refused_budget@128 self_tests@136 observed@144 allowed_table_full@152 \
            exempt_multicast@160 exempt_broadcast@168 bound@176 discovered@184 given_tcp@192 \
            ports_bypassed@200 discovery_probes@208 unresolved@304 exclusive_port@312 \
            undiscoverable@320 already_rejected@328 counted@336 uncounted@344 events_dropped@352
            """
        ),
        ("tg_side", "generation@0 guard@8 outsiders@16 error@20"),
        (
            "tg_policy",
            """
            attachment@0 attached_ns@8 grace_ns@16 secret@24 observe@32 error@36 \
            refuse_when_full@40 look_up@44 look_up_auto@48 table_mask@52 discover@56 \
            exhausted@60 strict@64 outsiders@68 first_port@72 last_port@74 \
            max_connections@76 connections_mask@80 reserved@84
            """
        ),
        ("tg_budget", "used@0 cursor@8"),
        ("tg_connection", "word@0 cookie@8 sock@16 time_ns@24 thread@32 protocol@36"),
    ]

    @Test("Pinned structs are as they were when the ABI got its number")
    func members() throws {
        #expect(GuardState.abi == Self.abi)
        let object = try OpenedObject()
        for (name, members) in Self.pinned {
            let layout = Layout(named: name, in: object.pointer)
            #expect(layout.description == members, "\(name)")
        }
    }

    @Test("Swift has the members that the programs have, in their order and of their size")
    func agreement() throws {
        func view<T>(_ name: String, _ value: T) -> (name: String, size: Int, members: [String]) {
            let members = Mirror(reflecting: value).children.map { $0.label ?? "" }
            return (name, MemoryLayout<T>.size, members)
        }
        let views = [
            view("tg_abi_info", tg_abi_info()), view("tg_group_key", tg_group_key()),
            view("tg_tuple", tg_tuple()), view("tg_process", tg_process()),
            view("tg_claim", tg_claim()), view("tg_group", tg_group()),
            view("tg_bucket", tg_bucket()), view("tg_further", tg_further()),
            view("tg_event", tg_event()), view("tg_conflict", tg_conflict()),
            view("tg_counters", tg_counters()), view("tg_policy", tg_policy()),
            view("tg_budget", tg_budget()),
        ]
        let object = try OpenedObject()
        for view in views {
            let layout = Layout(named: view.name, in: object.pointer)
            #expect(view.members == layout.members.map(\.name), "\(view.name)")
            #expect(view.size == layout.size, "\(view.name)")
            #expect(!view.members.isEmpty, "\(view.name)")
        }
    }
}
