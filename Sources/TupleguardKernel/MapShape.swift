// SPDX-License-Identifier: Apache-2.0
// What a map is like: by that a map is known which is in the place of another.

import CTupleguardLibbpf
import TupleguardABI
import TupleguardSockets

/// What the kernel tells of a map, and what the programs were made for.
struct MapShape: Equatable, Sendable, CustomStringConvertible {
    private let name: String
    private let type: UInt32
    private let keySize: UInt32
    private let valueSize: UInt32
    private var entries: UInt32
    private let isPreallocated: Bool

    init(_ info: bpf_map_info) {
        var info = info
        name = withUnsafeBytes(of: &info.name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        type = info.type
        keySize = info.key_size
        valueSize = info.value_size
        entries = info.max_entries
        isPreallocated = info.map_flags & UInt32(BPF_F_NO_PREALLOC) == 0
    }

    /// A map of an object that is not loaded yet.
    private init(_ map: OpaquePointer, _ name: MapName) {
        // The kernel keeps fifteen bytes of a name (BPF_OBJ_NAME_LEN).
        self.name = String(name.rawValue.prefix(15))
        type = bpf_map__type(map).rawValue
        keySize = bpf_map__key_size(map)
        valueSize = bpf_map__value_size(map)
        entries = bpf_map__max_entries(map)
        isPreallocated = bpf_map__map_flags(map) & UInt32(BPF_F_NO_PREALLOC) == 0
    }

    /// "claims_more (type 1, key 40, value 88, 1024 entries)"
    var description: String {
        "\(name) (type \(type), key \(keySize), value \(valueSize), \(entries) entries)"
    }

    /// The same with as many elements as another.
    func sized(as other: MapShape) -> MapShape { MapShape(self, entries: Int(other.entries)) }

    private init(_ other: MapShape, entries: Int) {
        self = other
        self.entries = UInt32(entries)
    }

    /// Of every map that is pinned under a name of its own, for a table of that size.
    ///
    /// - Parameter buckets: nil for as many as fit the table.
    static func all(
        tableSize: Int, buckets: Int?
    ) throws(GuardError) -> [MapName: MapShape] {
        var shapes = try ofObject.get()
        for (name, shape) in shapes {
            switch name {
            case .buckets, .socketRecords:
                let entries = buckets ?? GuardState.buckets(for: tableSize)
                shapes[name] = MapShape(shape, entries: entries)
            case _ where MapName.sized.contains(name):
                shapes[name] = MapShape(shape, entries: name.elements(tableSize: tableSize))
            default: break
            }
        }
        return shapes
    }

    /// As the embedded object has them.
    private static let ofObject: Result<[MapName: MapShape], GuardError> = Result {
        () throws(GuardError) in
        let set = ProgramSet.hooks.object
        let object = try BPFObject(set.words, length: set.length, name: "tupleguard")
        var shapes: [MapName: MapShape] = [:]
        for name in MapName.shared + [.counters] + MapName.counting {
            guard let map = bpf_object__find_map_by_name(object.pointer, name.rawValue) else {
                continue
            }
            shapes[name] = MapShape(map, name)
        }
        return shapes
    }

    /// Bytes that the kernel sets aside for it when it is made (htab_map_alloc,
    /// array_map_alloc, ringbuf_map_alloc), about.
    var memory: UInt64 {
        func rounded(_ size: UInt32) -> UInt64 { (UInt64(size) + 7) & ~7 }
        let entries = UInt64(entries)
        switch bpf_map_type(type) {
        case BPF_MAP_TYPE_RINGBUF: return entries
        case BPF_MAP_TYPE_ARRAY: return entries * rounded(valueSize)
        case BPF_MAP_TYPE_PERCPU_ARRAY:
            return entries * rounded(valueSize) * UInt64(max(1, libbpf_num_possible_cpus()))
        default:
            // The element's header, and a bucket of sixteen bytes for each.
            return isPreallocated ? entries * (64 + rounded(keySize) + rounded(valueSize)) : 0
        }
    }
}
