// SPDX-License-Identifier: Apache-2.0
// What the guard needs of the machine: kernel, capabilities, a BPF file system.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

struct PlatformTests {
    @Test(
        "Kernels from 6.1 on will do",
        arguments: [
            "6.1", "6.1.0", "6.1.0-28-amd64", "6.1-rc1", "6.10.3", "6.2.16-20-generic",
            "6.12.5-arch1-1",
            "7.0.0", "7.2.0-rc3+", "10.0", "6.6.87.2-microsoft-standard-WSL2",
        ])
    func newEnough(release: String) {
        #expect(throws: Never.self) { try Platform.requireKernel(release: release) }
    }

    @Test(
        "Older ones will not, and the message says which one it is",
        arguments: [
            "6.0", "6.0.19", "6.0.0-rc7", "5.15.0-91-generic", "5.10.0-28-amd64", "5.4", "4.19.0",
            "3.10.0-1160.el7.x86_64", "2.6.32", "0.0",
        ])
    func tooOld(release: String) {
        #expect(throws: GuardError.kernelTooOld(release: release)) {
            try Platform.requireKernel(release: release)
        }
    }

    @Test(
        "A version that cannot be read is given a try",
        arguments: [
            "", "6", "next", "linux-next", "...", "-", "6.x", "99999999999999999999.1",
            "6.99999999999999999999", "\u{1F427}", "½.½",
        ])
    func unreadable(release: String) {
        #expect(throws: Never.self) { try Platform.requireKernel(release: release) }
    }

    @Test("This kernel's release is what uname(2) says")
    func release() throws {
        let file = try #require(contents(of: "/proc/sys/kernel/osrelease"))
        #expect(KernelVersion.runningRelease + "\n" == file)
    }

    private static let netAdmin: UInt64 = 1 << 12
    private static let sysAdmin: UInt64 = 1 << 21
    private static let perfmon: UInt64 = 1 << 38
    private static let bpf: UInt64 = 1 << 39

    @Test(
        "Each capability that is missing is named",
        arguments: [
            (0, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]),
            (.max, []),
            (bpf | netAdmin | perfmon, []),
            (netAdmin | perfmon, ["CAP_BPF"]),
            (bpf | perfmon, ["CAP_NET_ADMIN"]),
            (bpf | netAdmin, ["CAP_PERFMON"]),
            (bpf, ["CAP_NET_ADMIN", "CAP_PERFMON"]),
            // CAP_SYS_ADMIN stands for two of them, not for the third.
            (sysAdmin, ["CAP_NET_ADMIN"]),
            (sysAdmin | netAdmin, []),
            (~(bpf | perfmon), []),
            (~(bpf | perfmon | sysAdmin), ["CAP_BPF", "CAP_PERFMON"]),
            (~netAdmin, ["CAP_NET_ADMIN"]),
        ] as [(UInt64, [String])])
    func capabilities(effective: UInt64, missing: [String]) {
        #expect(Platform.missingCapabilities(effective: effective) == missing)
    }

    @Test("A kernel that keeps its memory from BPF programs will not do")
    func lockdown() {
        for fine in [
            nil, "[none] integrity confidentiality\n", "none [integrity] confidentiality\n",
        ] {
            #expect(throws: Never.self) { try Platform.requireKernelMemory(lockdown: fine) }
        }
        let locked = "none integrity [confidentiality]\n"
        #expect(throws: GuardError.lockedDown) {
            try Platform.requireKernelMemory(lockdown: locked)
        }
    }

    @Test("No BPF file system where there is no folder")
    func noFolderForBPF() throws {
        let path = "/proc/that-is-not-there"
        #expect(throws: GuardError.noBPFFileSystem(path: path, errno: Errno(ENOENT))) {
            try Platform.requireBPFFileSystem(at: path)
        }
    }
}
