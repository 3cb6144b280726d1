// SPDX-License-Identifier: Apache-2.0
// What the guard needs of the machine, checked before anything is touched.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// The machine that the guard runs on.
package enum Platform {
    /// Throws unless the guard can be loaded here, naming what is missing.
    package static func check() throws(GuardError) {
        try requireCapabilities()
        try requireKernel(release: KernelVersion.runningRelease)
        if access("/sys/kernel/btf/vmlinux", R_OK) != 0 { throw .noBTF }
        try requireKernelMemory(lockdown: lockdown)
    }

    /// What of the kernel is kept from root, as it is set (kernel_lockdown(7)).
    private static var lockdown: String? { contents(of: "/sys/kernel/security/lockdown") }

    /// BPF programs may not read the kernel's memory where it is to be kept from root too, and the
    /// guard reads sockets there (LOCKDOWN_BPF_READ_KERNEL).
    ///
    /// - Parameter lockdown: "none integrity [confidentiality]"; nil where that cannot be read.
    static func requireKernelMemory(lockdown: String?) throws(GuardError) {
        if lockdown?.contains("[confidentiality]") == true { throw .lockedDown }
    }

    static func requireKernel(release: String) throws(GuardError) {
        // One that we can't read: let it try.
        guard let version = KernelVersion(release: release) else { return }
        if version < KernelVersion(6, 1) { throw .kernelTooOld(release: release) }
    }

    /// Bits of capabilities(7), from linux/capability.h.
    private enum Capability: Int {
        case netAdmin = 12
        case sysAdmin = 21
        case perfmon = 38
        case bpf = 39
    }

    /// The kernel takes CAP_SYS_ADMIN for CAP_BPF and CAP_PERFMON (bpf_capable,
    /// perfmon_capable), but not for CAP_NET_ADMIN, which attaching needs.
    static func missingCapabilities(effective: UInt64) -> [String] {
        func has(_ capability: Capability) -> Bool { effective >> capability.rawValue & 1 == 1 }
        var missing: [String] = []
        if !has(.bpf) && !has(.sysAdmin) { missing.append("CAP_BPF") }
        if !has(.netAdmin) { missing.append("CAP_NET_ADMIN") }
        if !has(.perfmon) && !has(.sysAdmin) { missing.append("CAP_PERFMON") }
        return missing
    }

    package static func requireCapabilities() throws(GuardError) {
        var effective: UInt64 = 0
        guard linux_effective_capabilities(&effective) == 0 else { return }
        let missing = missingCapabilities(effective: effective)
        if !missing.isEmpty { throw .notPermitted(missing: missing) }
    }

    private static let bpfFileSystemMagic: UInt64 = 0xcafe_4a11

    private static let bpfFileSystem = "/sys/fs/bpf"

    static func isBPFFileSystem(_ path: String) -> Bool {
        linux_filesystem_magic(path) == bpfFileSystemMagic
    }

    /// Makes sure that `path` lies in a BPF file system.
    ///
    /// Where there should be one on every machine, one is mounted if need be: never over another
    /// folder, and never where it would end with our mount namespace, and the guard with it.
    static func requireBPFFileSystem(at path: String) throws(GuardError) {
        if isBPFFileSystem(path) { return }
        guard path == bpfFileSystem, LastingMounts.areOurs == true else {
            throw .noBPFFileSystem(
                path: path, errno: Errno(access(path, F_OK) == 0 ? EINVAL : ENOENT))
        }
        if linux_mount_bpffs(path) != 0 { throw .noBPFFileSystem(path: path, errno: .last) }
    }
}
