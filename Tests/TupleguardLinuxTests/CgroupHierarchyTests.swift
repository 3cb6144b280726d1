// SPDX-License-Identifier: Apache-2.0
// Where the hierarchy is, and which process is where in it.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardLinux

/// A hierarchy where a list of mounts says.
private func hierarchy(mounts: String) throws -> CgroupHierarchy {
    try withTemporaryProc(files: ["self/mounts": mounts]) {
        try CgroupHierarchy(proc: $0, outer: [])
    }
}

struct CgroupHierarchyTests {
    @Test("Unified: where systemd mounts it")
    func unified() throws {
        let hierarchy = try hierarchy(
            mounts: """
                sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
                cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0
                bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0

                """)
        #expect(hierarchy.mountPoint == "/sys/fs/cgroup")
    }

    @Test("Hybrid: beside the controllers of version 1")
    func hybrid() throws {
        let hierarchy = try hierarchy(
            mounts: """
                tmpfs /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,mode=755 0 0
                cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,xattr,name=systemd 0 0
                cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0
                cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid,nsdelegate 0 0
                cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0
                """)
        #expect(hierarchy.mountPoint == "/sys/fs/cgroup/unified")
    }

    @Test("In a container: the one that has the other in it, wherever it stands in the list")
    func severalMounts() throws {
        // Folders of one file system, numbered as they are made.
        let folders = try (0..<2).map { number in
            var name = Array("/tmp/tupleguard-test-\(number)-XXXXXX".utf8CString)
            let folder = try #require(mkdtemp(&name).map { String(cString: $0) })
            return folder
        }
        defer { for folder in folders { rmdir(folder) } }
        func inode(_ path: String) -> UInt64 {
            var status = stat()
            stat(path, &status)
            return UInt64(status.st_ino)
        }
        let older = folders.min { inode($0) < inode($1) }
        for order in [folders, folders.reversed()] {
            let mounts = order.map { "none \($0) cgroup2 ro 0 0\n" }.joined()
            #expect(try hierarchy(mounts: mounts).mountPoint == older)
        }
    }

    @Test("What the file system is called does not matter, its type does")
    func otherName() throws {
        let hierarchy = try hierarchy(mounts: "none /mnt/cgroups cgroup2 rw 0 0")
        #expect(hierarchy.mountPoint == "/mnt/cgroups")
    }

    @Test(
        "None",
        arguments: [
            "", "\n\n", "cgroup2", "cgroup2 /sys/fs/cgroup",
            "cgroup2 /cgroup2 tmpfs rw 0 0", "tmpfs /sys/fs/cgroup2 tmpfs cgroup2 0 0",
        ])
    func none(mounts: String) {
        #expect(throws: CgroupError.noHierarchy) { try hierarchy(mounts: mounts) }
    }

    @Test("Those of version 1 alone are said to be that")
    func versionOneOnly() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0"
        #expect(throws: CgroupError.versionOneOnly) { try hierarchy(mounts: mounts) }
    }

    @Test("A space in the mount point, which /proc/mounts writes as \\040")
    func escapedMountPoint() throws {
        let hierarchy = try hierarchy(mounts: #"none /mnt/my\040cgroups cgroup2 rw 0 0"#)
        #expect(hierarchy.mountPoint == "/mnt/my cgroups")
    }

    @Test("Paths are given without the mount point")
    func relative() throws {
        let hierarchy = try hierarchy(mounts: "none /sys/fs/cgroup cgroup2 rw 0 0")
        #expect(hierarchy.relative("/sys/fs/cgroup") == "/")
        #expect(hierarchy.relative("/sys/fs/cgroup/system.slice") == "/system.slice")
        #expect(hierarchy.relative("/sys/fs/cgroup/a/b c") == "/a/b c")
        #expect(hierarchy.relative("/elsewhere/a") == "/elsewhere/a")
    }

    @Test("A neighbour whose name begins alike is not below the mount point")
    func relativeNeighbour() throws {
        let hierarchy = try hierarchy(mounts: "none /mnt/cgroup cgroup2 rw 0 0")
        #expect(hierarchy.relative("/mnt/cgroup2/a") == "/mnt/cgroup2/a")
    }

    @Test("The cgroup of a process is a folder below the mount point")
    func ofProcess() throws {
        try withTemporaryProc(files: [
            "self/mounts": "none /mnt/cgroup cgroup2 rw 0 0",
            "7/cgroup": "4:memory:/elsewhere\n0::/a.slice/b c\n", "8/cgroup": "0::/\n",
            "9/cgroup": "4:memory:/elsewhere\n",
        ]) { proc in
            let hierarchy = try CgroupHierarchy(proc: proc)
            #expect(hierarchy.folder(ofProcess: 7) == "/mnt/cgroup/a.slice/b c")
            #expect(hierarchy.folder(ofProcess: 8) == "/mnt/cgroup/")
            #expect(hierarchy.folder(ofProcess: 9) == nil)
            #expect(hierarchy.folder(ofProcess: 10) == nil)
        }
    }
}
