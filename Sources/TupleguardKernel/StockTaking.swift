// SPDX-License-Identifier: Apache-2.0
// Claims for sockets that exist already, and the end of claims whose socket is gone.

import CTupleguardLibbpf
import Glibc
import TupleguardABI
import TupleguardLinux
import TupleguardSockets

/// What taking stock of the host's UDP sockets found.
package struct Stock: Sendable, Equatable {
    /// Connected sockets that have a claim from now on.
    package var claimed = 0
    /// Sockets that had one.
    package var known = 0
    /// Sockets whose tuple another socket has claimed.
    package var conflicts = 0
    /// Sockets that the table had no room for, or that were closed meanwhile.
    package var unclaimed = 0
}

/// What a sweep found.
package struct Sweep: Sendable, Equatable {
    package var claims = 0
    /// Claims dropped because no socket holds them.
    package var dropped = 0
    /// Records freed whose socket is gone.
    package var records = 0
}

/// The programs that go over all sockets and over the whole table.
///
/// Not pinned: whoever needs them loads them.
package struct Maintenance: ~Copyable {
    private let programs: LoadedPrograms

    package init(_ state: GuardState) throws(GuardError) {
        let size = try state.tableSize()
        var policy = tg_policy()
        policy.grace_ns = Policy.graceNanoseconds
        policy.table_mask = UInt32(GuardState.buckets(for: size) - 1)
        programs = try LoadedPrograms(.maintenance, policy: policy, tableSize: size) { name in
            MapName.shared.contains(name) ? state.map(name) : nil
        }
    }

    /// Claims for every connected UDP socket of the host that has no claim yet.
    ///
    /// Goes over the files of all processes first, which tells whose each
    /// socket is, then over the sockets of every network namespace, which also
    /// finds those that no process has open just now.
    package func takeStock() throws -> Stock {
        var stock = Stock()
        stock.add(try Self.run(iterator: programs.program("stock_files")))
        let link = try Self.link(to: programs.program("stock_sockets"))
        let raw = link.raw
        for path in NetworkNamespaces.paths() {
            // A namespace may go while we look; its sockets are gone too then.
            let found = try? NetworkNamespaces.inside(path: path) { try Self.read(link: raw) }
            stock.add(found ?? [])
        }
        _ = link
        return stock
    }

    /// Drops claims and records that no socket stands behind any more.
    package func sweep() throws(GuardError) -> Sweep {
        var argument = tg_sweep()
        argument.grace_ns = Policy.graceNanoseconds
        let program = programs.program("sweep")
        try withUnsafeMutablePointer(to: &argument) { pointer throws(GuardError) in
            var options = bpf_test_run_opts()
            options.sz = MemoryLayout<bpf_test_run_opts>.size
            options.ctx_in = UnsafeRawPointer(pointer)
            options.ctx_size_in = UInt32(MemoryLayout<tg_sweep>.size)
            try perform("sweep the claim table") { bpf_prog_test_run_opts(program, &options) }
        }
        return Sweep(
            claims: Int(argument.claims), dropped: Int(argument.dropped),
            records: Int(argument.records))
    }

    private static func link(to program: Int32) throws(GuardError) -> OwnedDescriptor {
        OwnedDescriptor(
            taking: try perform("attach an iterator") {
                bpf_link_create(program, 0, BPF_TRACE_ITER, nil)
            })
    }

    private static func run(iterator program: Int32) throws(GuardError) -> [UInt8] {
        let link = try link(to: program)
        return try read(link: link.raw)
    }

    /// Runs an iterator in the calling thread's network namespace.
    private static func read(link: Int32) throws(GuardError) -> [UInt8] {
        let iterator = OwnedDescriptor(
            taking: try perform("start an iterator") { bpf_iter_create(link) })
        var results: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = try perform("run an iterator") {
                Glibc.read(iterator.raw, &buffer, buffer.count)
            }
            if count == 0 { return results }
            results += buffer[..<count]
        }
    }
}

extension Stock {
    mutating func add(_ results: [UInt8]) {
        for result in results {
            switch UInt32(result) {
            case TG_STOCK_CLAIMED.rawValue: claimed += 1
            case TG_STOCK_KNOWN.rawValue: known += 1
            case TG_STOCK_CONFLICT.rawValue: conflicts += 1
            default: unclaimed += 1
            }
        }
    }
}
