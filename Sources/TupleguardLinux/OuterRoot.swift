// SPDX-License-Identifier: Apache-2.0
// What lies outside of the mount namespace that we were started in.
//
// `ip netns exec` gives a command a /sys of its own, in which neither cgroups nor BPF's file system
// are mounted. Mounting cgroup2 once more would do, but resets the options of the mount that
// everybody has (apply_cgroup_root_flags), and a BPF file system that is mounted anew is empty.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// The root folder of a process that is in another mount namespace than we are.
package struct OuterRoot: Sendable {
    /// Where it can be reached, without "/" at the end.
    package let path: String
    /// What the kernel calls that folder: other than "/" where the process has changed its root.
    private let place: String
    /// What is mounted there, as /proc/PID/mounts lists it.
    let mounts: String

    /// Of process 1, and of those who started us, as far as they may be entered.
    ///
    /// Each is held open as long as we run: the process may end sooner.
    package static let all: [OuterRoot] = {
        var own = stat()
        guard stat("/proc/self/ns/mnt", &own) == 0 else { return [] }
        var seen: Set<UInt64> = [UInt64(own.st_ino)]
        return ([1] + ancestors).compactMap { process in
            var status = stat()
            guard stat("/proc/\(process)/ns/mnt", &status) == 0,
                seen.insert(UInt64(status.st_ino)).inserted,
                let mounts = Proc.system.contents(of: process, "mounts")
            else { return nil }
            let root = open("/proc/\(process)/root", LINUX_O_PATH | O_DIRECTORY | O_CLOEXEC)
            guard root >= 0, let place = TupleguardLinux.path(ofDescriptor: root) else {
                return nil
            }
            return OuterRoot(path: "/proc/self/fd/\(root)", place: place, mounts: mounts)
        }
    }()

    /// Where we can reach what the kernel calls `path` there.
    func reach(_ path: String) -> String {
        guard place != "/", path.hasPrefix(place + "/") else { return self.path + path }
        return self.path + path.dropFirst(place.count)
    }

    /// Our parent, its parent, and so on.
    private static var ancestors: [Int32] {
        var ancestors: [Int32] = []
        var process = getppid()
        while process > 1 && ancestors.count < 64 {
            ancestors.append(process)
            process = Proc.system.parent(of: process) ?? 0
        }
        return ancestors
    }
}

/// The mounts of process 1, which last as long as the machine, or the container, runs.
package enum LastingMounts {
    /// Whether our mount namespace is that of process 1; nil where that cannot be told.
    package static var areOurs: Bool? {
        guard let own = numbers(of: "self"), let first = numbers(of: "1") else { return nil }
        // A mount has a number of its own, in whatever namespace it is.
        return !own.isDisjoint(with: first)
    }

    /// Whether process 1 has the file system mounted too that `path` is on; nil where that cannot
    /// be told.
    package static func have(fileSystemOf path: String) -> Bool? {
        var status = stat()
        guard stat(path, &status) == 0, let lines = fields(of: "1") else { return nil }
        // makedev(3): the numbers of file systems without a device are below 2^20.
        let device =
            "\(status.st_dev >> 8 & 0xfff):\(status.st_dev & 0xff | status.st_dev >> 12 & 0xfff00)"
        return lines.contains { $0.count > 2 && $0[2] == device }
    }

    private static func numbers(of process: String) -> Set<Substring>? {
        fields(of: process).map { Set($0.compactMap(\.first)) }
    }

    private static func fields(of process: String) -> [[Substring]]? {
        Proc.system.contents("\(process)/mountinfo").map { contents in
            contents.split(separator: "\n").map { $0.split(separator: " ") }
        }
    }
}
