// SPDX-License-Identifier: Apache-2.0
// What the guard needs of the machine: kernel, capabilities, cgroups.

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
        #expect(Platform.kernelRelease + "\n" == file)
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

    @Test("No BPF file system where there is no folder")
    func noFolderForBPF() throws {
        let path = "/proc/that-is-not-there"
        #expect(throws: GuardError.noBPFFileSystem(path: path, errno: Errno(ENOENT))) {
            try Platform.requireBPFFileSystem(at: path)
        }
    }
}

struct CgroupHierarchyTests {
    @Test("Unified: where systemd mounts it")
    func unified() throws {
        let hierarchy = try CgroupHierarchy(
            mounts: """
                sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
                cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
                bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0

                """)
        #expect(hierarchy.mountPoint == "/sys/fs/cgroup")
    }

    @Test("Hybrid: beside the controllers of version 1")
    func hybrid() throws {
        let hierarchy = try CgroupHierarchy(
            mounts: """
                tmpfs /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,mode=755 0 0
                cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,xattr,name=systemd 0 0
                cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0
                cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid,nsdelegate 0 0
                cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
                """)
        #expect(hierarchy.mountPoint == "/sys/fs/cgroup/unified")
    }

    @Test("What the file system is called does not matter, its type does")
    func otherName() throws {
        let hierarchy = try CgroupHierarchy(mounts: "none /mnt/cgroups cgroup2 rw 0 0")
        #expect(hierarchy.mountPoint == "/mnt/cgroups")
    }

    @Test(
        "None",
        arguments: [
            "", "\n\n", "cgroup2", "cgroup2 /sys/fs/cgroup",
            "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0",
            "cgroup2 /cgroup2 tmpfs rw 0 0", "tmpfs /sys/fs/cgroup2 tmpfs cgroup2 0 0",
        ])
    func none(mounts: String) {
        #expect(throws: GuardError.noCgroup2) { try CgroupHierarchy(mounts: mounts) }
    }

    @Test("A space in the mount point, which /proc/mounts writes as \\040")
    func escapedMountPoint() throws {
        let hierarchy = try CgroupHierarchy(mounts: #"none /mnt/my\040cgroups cgroup2 rw 0 0"#)
        #expect(hierarchy.mountPoint == "/mnt/my cgroups")
    }

    @Test("Paths are given without the mount point")
    func relative() throws {
        let hierarchy = try CgroupHierarchy(mounts: "none /sys/fs/cgroup cgroup2 rw 0 0")
        #expect(hierarchy.relative("/sys/fs/cgroup") == "/")
        #expect(hierarchy.relative("/sys/fs/cgroup/system.slice") == "/system.slice")
        #expect(hierarchy.relative("/sys/fs/cgroup/a/b c") == "/a/b c")
        #expect(hierarchy.relative("/elsewhere/a") == "/elsewhere/a")
    }

    @Test("A neighbour whose name begins alike is not below the mount point")
    func relativeNeighbour() throws {
        let hierarchy = try CgroupHierarchy(mounts: "none /mnt/cgroup cgroup2 rw 0 0")
        #expect(hierarchy.relative("/mnt/cgroup2/a") == "/mnt/cgroup2/a")
    }

    @Test("The cgroup of a process is a folder below the mount point")
    func ofProcess() throws {
        let hierarchy = try CgroupHierarchy(mounts: "none /mnt/cgroup cgroup2 rw 0 0")
        let lines = contents(of: "/proc/self/cgroup") ?? ""
        let line = lines.split(separator: "\n").first { $0.hasPrefix("0::") }
        let folder = hierarchy.folder(ofProcess: getpid())
        #expect(folder == line.map { "/mnt/cgroup" + $0.dropFirst(3) })
        #expect(hierarchy.folder(ofProcess: -1) == nil)
    }
}

struct CgroupTests {
    /// A hierarchy that claims to be at `folder`, where there is none.
    private func pretended(at folder: String) throws -> CgroupHierarchy {
        try CgroupHierarchy(mounts: "none \(folder) cgroup2 rw 0 0")
    }

    private func why(_ name: String, in hierarchy: CgroupHierarchy) -> String? {
        do throws(GuardError) {
            _ = try Cgroup(name, in: hierarchy)
            return nil
        } catch {
            guard case .notACgroup(let path, let why) = error else { return "\(error)" }
            return path == name || name.isEmpty ? why : "wrong path \(path)"
        }
    }

    @Test("What is no cgroup is refused, with the reason")
    func refused() throws {
        try withTemporaryFolder { folder in
            let hierarchy = try pretended(at: folder)
            try #require(mkdir("\(folder)/plain", 0o755) == 0)
            try makeFile("\(folder)/file")

            #expect(why("", in: hierarchy) == "the path is empty")
            for name in ["file", "/file", "\(folder)/file"] {
                #expect(why(name, in: hierarchy) == "it is a file; a cgroup is a folder", "\(name)")
            }
            for name in ["plain", "/plain", "\(folder)/plain", folder] {
                let reason = "it is not in the cgroup v2 hierarchy at \(folder)"
                #expect(why(name, in: hierarchy) == reason, "\(name)")
            }
            for name in ["missing", "/missing/deeper", "plain/missing", "file/below"] {
                let reason = "there is no such folder, nor one of that name in \(folder)"
                #expect(why(name, in: hierarchy) == reason, "\(name)")
            }
        }
    }

    @Test("A cgroup of version 1 is called that")
    func versionOne() throws {
        let mounts = contents(of: "/proc/self/mounts") ?? ""
        let line = mounts.split(separator: "\n").first {
            $0.split(separator: " ").dropFirst(2).first == "cgroup"
        }
        // Only hybrid machines have one.
        guard let folder = line?.split(separator: " ")[1] else { return }
        let reason = why(String(folder), in: try pretended(at: "/mnt"))
        #expect(reason == "it is a cgroup of version 1; the v2 hierarchy is at /mnt")
    }

    @Test("The root of this machine's hierarchy", .enabled(if: (try? CgroupHierarchy()) != nil))
    func root() throws {
        let hierarchy = try CgroupHierarchy()
        let cgroup = try Cgroup(hierarchy.mountPoint, in: hierarchy)
        #expect(cgroup.path == "/")
        #expect(cgroup.isRoot)
        #expect(cgroup.folder == hierarchy.mountPoint)
        #expect(cgroup.id != 0)
        #expect(try Cgroup(hierarchy.mountPoint + "/.", in: hierarchy) == cgroup)
    }

    @Test(
        "The root by its path in the hierarchy, as status shows it",
        .enabled(if: (try? CgroupHierarchy()) != nil))
    func rootByPath() throws {
        let hierarchy = try CgroupHierarchy()
        // "/" is a folder outside of the hierarchy too; the cgroup comes first.
        let cgroup = try Cgroup("/", in: hierarchy)
        #expect(cgroup.isRoot)
        #expect(cgroup.folder == hierarchy.mountPoint)
    }
}
