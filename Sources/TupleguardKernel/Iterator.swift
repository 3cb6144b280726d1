// SPDX-License-Identifier: Apache-2.0
// BPF iterators: programs that the kernel runs over its own objects while somebody reads.

import CTupleguardLibbpf
import Glibc
import TupleguardSockets

/// An attached iterator.
struct Iterator: ~Copyable {
    /// The kernel works on no more than one read() has room for, when each object yields a byte.
    static let pieceSize = 1024

    let link: OwnedDescriptor

    /// - Parameter map: the map whose elements to go over; nil for iterators over something else.
    init(_ program: Int32, over map: Int32? = nil) throws(GuardError) {
        link = OwnedDescriptor(
            taking: try perform("attach an iterator") {
                guard let map else { return bpf_link_create(program, 0, BPF_TRACE_ITER, nil) }
                var target = bpf_iter_link_info()
                target.map.map_fd = UInt32(map)
                return withUnsafeMutablePointer(to: &target) { target in
                    var options = bpf_link_create_opts()
                    options.sz = MemoryLayout<bpf_link_create_opts>.size
                    options.iter_info = target
                    options.iter_info_len = UInt32(MemoryLayout<bpf_iter_link_info>.size)
                    return bpf_link_create(program, 0, BPF_TRACE_ITER, &options)
                }
            })
    }

    /// Runs it once, in the calling thread's network namespace, a piece after the other.
    ///
    /// - Parameter body: is given what the program wrote.
    func run(_ body: (ArraySlice<UInt8>) -> Void) throws(GuardError) {
        try Self.run(link: link.raw, body)
    }

    static func run(
        link: Int32, pieceSize: Int = Self.pieceSize, _ body: (ArraySlice<UInt8>) -> Void
    ) throws(GuardError) {
        let iterator = OwnedDescriptor(
            taking: try perform("start an iterator") { bpf_iter_create(link) })
        var buffer = [UInt8](repeating: 0, count: pieceSize)
        while true {
            let count = Glibc.read(iterator.raw, &buffer, buffer.count)
            if count > 0 {
                body(buffer[..<count])
            } else if count == 0 {
                return
            } else if errno != EAGAIN && errno != EINTR {
                // EAGAIN: a million objects of which none yielded a byte (bpf_seq_read).
                throw .failed(what: "run an iterator", errno: .last, detail: "")
            }
        }
    }
}
