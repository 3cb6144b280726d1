// SPDX-License-Identifier: Apache-2.0
// Reading BPF maps.

import CTupleguardLibbpf
import Glibc
import TupleguardSockets

/// A BPF map of the kernel, held by a descriptor.
struct BPFMap: ~Copyable, Sendable {
    let descriptor: OwnedDescriptor
    let name: String
    let id: UInt32
    let keySize: Int
    let valueSize: Int
    let capacity: Int
    let shape: MapShape

    /// Opens the map that is pinned at `path`.
    init(pinned path: String) throws(GuardError) {
        let raw = try perform("open the map pinned at \(path)") { bpf_obj_get(path) }
        try self.init(taking: raw, called: path)
    }

    /// Takes over a descriptor of a map.
    init(taking raw: Int32, called name: String) throws(GuardError) {
        let descriptor = OwnedDescriptor(taking: raw)
        var info = bpf_map_info()
        var length = UInt32(MemoryLayout<bpf_map_info>.size)
        try perform("ask the kernel about map \(name)") {
            bpf_obj_get_info_by_fd(raw, &info, &length)
        }
        self.descriptor = descriptor
        self.name = name
        id = info.id
        keySize = Int(info.key_size)
        valueSize = Int(info.value_size)
        capacity = Int(info.max_entries)
        shape = MapShape(info)
    }

    /// The element of an array map.
    func element<Value: BitwiseCopyable>(_ index: UInt32, as: Value.Type) -> Value? {
        guard valueSize == MemoryLayout<Value>.size else { return nil }
        var key = index
        return withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { buffer in
            bpf_map_lookup_elem(descriptor.raw, &key, buffer.baseAddress!) == 0 ? buffer[0] : nil
        }
    }

    /// Writes an element, a new one if there is none at that key.
    func write<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ value: Value, at key: Key
    ) throws(GuardError) {
        guard keySize == MemoryLayout<Key>.size && valueSize == MemoryLayout<Value>.size else {
            throw .damagedState(path: name, why: "its elements have another size")
        }
        var (key, value) = (key, value)
        try perform("write to map \(name)") {
            bpf_map_update_elem(descriptor.raw, &key, &value, 0)
        }
    }

    /// Removes an element, if it is there.
    func remove<Key: BitwiseCopyable>(_ key: Key) throws(GuardError) {
        var key = key
        if bpf_map_delete_elem(descriptor.raw, &key) != 0 && errno != ENOENT {
            throw .failed(what: "remove from map \(name)", errno: .last, detail: "")
        }
    }

    /// The element of a per-CPU array map, one value for each possible CPU.
    func perCPUElement<Value: BitwiseCopyable>(_ index: UInt32, as: Value.Type) -> [Value] {
        let count = Int(libbpf_num_possible_cpus())
        guard count > 0, valueSize == MemoryLayout<Value>.size else { return [] }
        let stride = (valueSize + 7) & ~7  // the kernel rounds up to eight bytes
        var key = index
        return withUnsafeTemporaryAllocation(byteCount: stride * count, alignment: 8) { buffer in
            guard bpf_map_lookup_elem(descriptor.raw, &key, buffer.baseAddress!) == 0 else {
                return []
            }
            return (0..<count).map {
                buffer.loadUnaligned(fromByteOffset: $0 * stride, as: Value.self)
            }
        }
    }

    /// Calls `body` with every element of a hash map or an array, a batch of them with each system
    /// call.
    ///
    /// Elements that come or go meanwhile may be missed, or, rarely, be seen twice.
    func forEach<Key: BitwiseCopyable, Value: BitwiseCopyable>(
        _ key: Key.Type, _ value: Value.Type, _ body: (Key, Value) throws -> Void
    ) throws {
        guard keySize == MemoryLayout<Key>.size && valueSize == MemoryLayout<Value>.size else {
            throw GuardError.damagedState(path: name, why: "its elements have another size")
        }
        var room = 4096
        var position: [UInt8]? = nil
        while true {
            let keys = UnsafeMutablePointer<Key>.allocate(capacity: room)
            let values = UnsafeMutablePointer<Value>.allocate(capacity: room)
            defer {
                keys.deallocate()
                values.deallocate()
            }
            var next = [UInt8](repeating: 0, count: max(8, keySize))
            var count = UInt32(room)
            let error = lookUpBatch(after: position, &next, keys, values, &count)
            if error == ENOSPC {  // one bucket holds more than we have room for
                room *= 2
                continue
            }
            guard error == 0 || error == ENOENT else {
                throw GuardError.failed(what: "read a map", errno: Errno(error), detail: "")
            }
            for index in 0..<Int(count) { try body(keys[index], values[index]) }
            if error == ENOENT { return }
            position = next
        }
    }

    /// One bpf_map_lookup_batch; 0, or the errno.
    private func lookUpBatch<Key, Value>(
        after position: [UInt8]?, _ next: inout [UInt8], _ keys: UnsafeMutablePointer<Key>,
        _ values: UnsafeMutablePointer<Value>, _ count: inout UInt32
    ) -> Int32 {
        var start = position ?? []
        let result = start.withUnsafeMutableBytes { start in
            next.withUnsafeMutableBytes { next in
                bpf_map_lookup_batch(
                    descriptor.raw, position == nil ? nil : start.baseAddress, next.baseAddress,
                    keys,
                    values, &count, nil)
            }
        }
        return result == 0 ? 0 : errno
    }
}
