// SPDX-License-Identifier: Apache-2.0
// What can go wrong with the guard, in sentences that name cause and remedy.

import Glibc
import TupleguardLinux
package import TupleguardSockets

/// An error of the guard. Its description is one sentence: what failed, why,
/// and what to do about it.
package enum GuardError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The process lacks these capabilities, by name.
    case notPermitted(missing: [String])
    /// The running kernel is older than 6.1.
    case kernelTooOld(release: String)
    /// /sys/kernel/btf/vmlinux does not exist.
    case noBTF
    /// The kernel keeps its memory from BPF programs.
    case lockedDown
    /// The BPF file system at this path is mounted in no mount namespace that lasts.
    case passingPlace(path: String)
    /// The memory cgroup that we are in has no room for the tables.
    case memoryLimit(cgroup: String, limit: UInt64, needed: UInt64)
    /// There is no BPF file system at this path, and none could be mounted.
    case noBPFFileSystem(path: String, errno: Errno)
    /// The cgroup has a guard already.
    case alreadyAttached(path: String)
    /// The cgroup has no guard.
    case notAttached(path: String)
    /// Ports of its own that another guarded cgroup has already.
    case portsTaken(asked: ClosedRange<UInt16>, path: String, has: ClosedRange<UInt16>)
    /// Another program on the cgroup, or above it, does not allow others beside it.
    case programInTheWay(hook: Hook, program: String, path: String)
    /// Outsiders are to be refused, and no program can be attached to the root cgroup.
    case outsidersOutOfReach(why: String)
    /// The pinned state was made by another version.
    case otherABI(path: String, found: UInt32)
    /// The folder of the pinned state holds something else, or is incomplete.
    case damagedState(path: String, why: String)
    /// Nothing is pinned at this path.
    case noGuard(path: String)
    /// The size of the claim table is out of range.
    case tableSize(Int)
    /// The table exists already with another size.
    case tableSizeFixed(existing: Int, asked: Int)
    /// The count of connections was made for a lower limit.
    case budgetOutgrown(asked: Int, most: Int)
    /// Another process holds the lock.
    case locked(path: String, by: String)
    /// A system call or libbpf failed; `detail` says more where there is more to say.
    case failed(what: String, errno: Errno, detail: String)

    package static let tableSizes = 64...(1 << 24)

    /// Others choose the names of cgroups.
    package var description: String { printable(sentence) }

    private var sentence: String {
        switch self {
        case .notPermitted(let missing):
            return
                "not permitted to work with BPF programs: this process lacks \(missing.joined(separator: ", ")); run it as root (sudo)"
        case .kernelTooOld(let release):
            return
                "kernel \(release) is too old for the guard: it needs 6.1 or later (bpf_set_retval, bpf_loop); what needs no BPF works here: `tupleguard run --scan` (also called --userspace) finds conflicts by looking, `tupleguard shadows` and `doctor` show them, libconnectx makes none"
        case .noBTF:
            return
                "the kernel does not describe its own types: /sys/kernel/btf/vmlinux is missing; boot a kernel built with CONFIG_DEBUG_INFO_BTF"
        case .noBPFFileSystem(let path, let errno):
            return
                "no BPF file system at \(path): \(errno); as root, and where everybody sees it (not in a mount namespace of a service's or of ip netns exec) try: mount -t bpf bpf /sys/fs/bpf, and keep the state in a folder there"
        case .lockedDown:
            return
                "the kernel is locked down (confidentiality): BPF programs may not read its memory, and the guard reads sockets there; boot with lockdown=integrity"
        case .passingPlace(let path):
            return
                "the BPF file system at \(path) is mounted in this mount namespace alone, and the guard would go with it; mount one where everybody sees it (mount -t bpf bpf /sys/fs/bpf), and for another network namespace use nsenter --net=/run/netns/NAME"
        case .memoryLimit(let cgroup, let limit, let needed):
            return
                "no memory for the tables, which take some \(max(1, needed >> 20)) MiB: the cgroup \(cgroup) may have \(limit >> 20) MiB for those and its processes (memory.max; MemoryMax= in a unit); raise that, or choose a smaller --table-size"
        case .alreadyAttached(let path):
            return
                "\(path) is guarded already; to change its policy with no gap use: tupleguard attach --replace \(path)"
        case .notAttached(let path):
            return "\(path) has no guard; `tupleguard status` lists those that do"
        case .portsTaken(let asked, let path, let has):
            return
                "the ports \(asked.lowerBound)-\(asked.upperBound) are not free: \(path) has \(has.lowerBound)-\(has.upperBound) for its own; choose others, or give that one others first (`tupleguard attach --replace --ports LOW-HIGH \(path)`)"
        case .programInTheWay(let hook, let program, let path):
            return
                "cannot attach: \(hook.title) of \(path) has \(program), attached so that it allows no other beside it; see `bpftool cgroup show \(path)`, and attach that one with the flag `multi`"
        case .outsidersOutOfReach(let why):
            return
                "cannot refuse sockets outside the cgroup: \(why); attach that one with the flag `multi`, or refuse none (without --strict: --outsiders observe, which then looks each tuple up)"
        case .otherABI(let path, let found):
            let remedy =
                found == GuardState.olderABI
                ? "take it over with `tupleguard attach --replace CGROUP`"
                : "remove it with the version that made it, or with `tupleguard detach --all`"
            return
                "the guard pinned at \(path) has ABI \(found), this program knows \(GuardState.abi); \(remedy)"
        case .damagedState(let path, let why):
            return
                "\(path) is not a guard's state as it should be: \(why); `tupleguard detach --all` removes it"
        case .noGuard(let path):
            return
                "no guard is attached (nothing at \(path)); attach one with: tupleguard attach CGROUP"
        case .tableSize(let size):
            return
                "a claim table of \(size) entries is out of range: choose between \(Self.tableSizes.lowerBound) and \(Self.tableSizes.upperBound)"
        case .tableSizeFixed(let existing, let asked):
            return
                "the claim table has \(existing) entries already, not \(asked); its size is fixed by the first attach: `tupleguard detach --all`, then attach anew"
        case .budgetOutgrown(let asked, let most):
            return
                "\(asked) connections are more than the count that goes on has room for (\(most)): choose \(most) or fewer, or detach the cgroup and attach it anew, which does not count the connections that are open then"
        case .locked(let path, let by):
            return "\(by) (lock on \(path)); wait for it, or stop it"
        case .failed(let what, let errno, let detail):
            let remedy =
                errno.number == EMFILE
                ? "; this process may have no more files open: raise the limit (ulimit -n 1024)"
                : ""
            return "cannot \(what): \(errno)" + (detail.isEmpty ? "" : "; \(detail)") + remedy
        }
    }
}

/// Runs a system call for the purpose `what`, and throws a `GuardError` when it fails.
@discardableResult
func perform<Result: SignedInteger>(
    _ what: @autoclosure () -> String, _ call: () -> Result
) throws(GuardError) -> Result {
    do {
        return try Errno.check(call)
    } catch {
        throw .failed(what: what(), errno: error, detail: "")
    }
}

/// The same for a function of libbpf that does more than one system call: the error has what
/// libbpf, or the verifier, said of it.
@discardableResult
package func performByLibbpf<Result: SignedInteger>(
    _ what: @autoclosure () -> String, _ call: () -> Result
) throws(GuardError) -> Result {
    _ = LibbpfLog.takeDetail()  // of what came before
    do {
        return try Errno.check(call)
    } catch {
        throw .failed(what: what(), errno: error, detail: LibbpfLog.takeDetail())
    }
}
