// SPDX-License-Identifier: Apache-2.0
// What is a cgroup, and what is none.

import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardLinux

struct CgroupTests {
    /// A hierarchy that claims to be at `folder`, where there is none.
    private func pretended(at folder: String) throws -> CgroupHierarchy {
        try withTemporaryProc(files: ["self/mounts": "none \(folder) cgroup2 rw 0 0"]) {
            try CgroupHierarchy(proc: $0, outer: [])
        }
    }

    private func why(_ name: String, in hierarchy: CgroupHierarchy) -> String? {
        do throws(CgroupError) {
            _ = try Cgroup(name, in: hierarchy)
            return nil
        } catch {
            if case .missing(name, let point) = error { return "missing, also in \(point)" }
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
                let reason = "missing, also in \(folder)"
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

    @Test(
        "Errors name the thing, the cause and the remedy",
        arguments: [
            (.noHierarchy, ["no cgroup v2 hierarchy", "mount -t cgroup2"]),
            (
                .versionOneOnly,
                ["only cgroup v1", "unified_cgroup_hierarchy=1", "mount -t cgroup2"]
            ),
            (.missing(path: "x.slice", mountPoint: "/mnt"), ["x.slice", "no such folder", "/mnt"]),
            (.notACgroup(path: "/tmp/x", why: "it is a file"), ["/tmp/x", "it is a file"]),
            (
                .failed(what: "make the cgroup a", errno: Errno(EROFS), remedy: "it needs root"),
                ["cannot make the cgroup a: ", "EROFS", "; it needs root"]
            ),
        ] as [(CgroupError, [String])])
    func errors(error: CgroupError, parts: [String]) {
        for part in parts { #expect(error.description.contains(part), "\(error)") }
    }
}
