// SPDX-License-Identifier: Apache-2.0
// Commands that are run in a mount namespace of their own, as `ip netns exec` does.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct MountNamespaces {
        private let tupleguard = Sandbox.program("tupleguard")

        /// The namespace has a /sys of its own, with no cgroups in it and no guard.
        @Test func everythingWorksUnderIPNetnsExec() throws {
            try Sandbox.run { sandbox in
                let name = "tupleguard-test-\(getpid())"
                #expect(
                    try sandbox.command("/usr/bin/env", ["ip", "netns", "add", name]).status == 0)
                defer { _ = try? sandbox.command("/usr/bin/env", ["ip", "netns", "del", name]) }
                func inside(_ arguments: String...) throws -> Sandbox.Outcome {
                    try sandbox.command(
                        "/usr/bin/env", ["ip", "netns", "exec", name, tupleguard] + arguments)
                }
                #expect(try inside("status").status == 3)
                let attached = try inside("attach", sandbox.cgroup.path)
                #expect(attached.status == 0, "\(attached.errors)")
                // (What others on the machine share is told below.)
                #expect(attached.output.hasPrefix("guarding \(sandbox.cgroup.path) (enforce)\n"))
                // It is the guard that everybody sees, and lasts.
                #expect(try sandbox.state.attachments().map(\.path) == [sandbox.cgroup.path])
                let sockets = try (0..<2).map { _ in try sandbox.socket(bound: "127.0.0.1:5000") }
                #expect(sockets[0].connect("127.0.0.1:6000") == nil)
                #expect(sockets[1].connect("127.0.0.1:6000") == "EPERM")
                #expect(try inside("status").output.contains(sandbox.cgroup.path))
                #expect(try inside("conflicts").output.contains("127.0.0.1:5000"))
                // By the folder as it is called outside, too.
                #expect(try inside("detach", sandbox.cgroup.folder).status == 0)
                #expect(try sandbox.tupleguard("status").status == 3)

                #expect(
                    try sandbox.command(
                        "/usr/bin/env", ["ip", "-n", name, "link", "set", "lo", "up"]
                    ).status == 0)
                let executed = try inside("exec", "--", tupleguard, "overshadow")
                #expect(executed.status == 0, "\(executed.errors)")
                #expect(executed.errors.contains("1 refused"), "\(executed.errors)")
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        /// Such a guard would end with the shell that mounted it.
        @Test func whatCannotLastIsNotCalledGuarding() throws {
            try Sandbox.run { sandbox in
                let script = """
                    umount /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf || exit 99
                    "$0" attach "$1"; echo "attach $?"
                    "$0" run --cgroup "$1"; echo "run $?"
                    """
                let outcome = try sandbox.command(
                    "/usr/bin/env",
                    ["unshare", "-m", "sh", "-c", script, tupleguard, sandbox.cgroup.path])
                #expect(outcome.output == "attach 1\nrun 78\n", "\(outcome.errors)")
                #expect(
                    outcome.errors.contains("is mounted in this mount namespace alone"),
                    "\(outcome.errors)")
            }
        }

        @Test func noBPFFileSystemIsMountedWhereOnlyWeWouldSeeIt() throws {
            try Sandbox.run { sandbox in
                // Its parent is gone, so nobody is left whose mounts might do instead. Those of
                // other types may go meanwhile: when somebody removes the file that one is on.
                let script = """
                    umount /sys/fs/bpf || exit 99
                    grep -w bpf /proc/self/mounts >"$3.before"
                    setsid sh -c 'sleep 0.2
                        "$0" attach "$1" 2>"$2"; grep -w bpf /proc/self/mounts >"$2.after"
                        echo done >>"$2"' "$@" &
                    """
                let note = "/tmp/tupleguard-mounts-\(getpid())"
                defer { for end in ["", ".before", ".after"] { unlink(note + end) } }
                _ = try sandbox.command(
                    "/usr/bin/env",
                    [
                        "unshare", "-m", "sh", "-c", script, "sh", tupleguard,
                        sandbox.cgroup.path, note,
                    ])
                #expect(eventually { contents(of: note)?.hasSuffix("done\n") == true })
                #expect(contents(of: note + ".after") != nil)
                #expect(contents(of: note + ".after") == contents(of: note + ".before"))
                // Where process 1 may be looked at the guard is kept in its file system.
                if OuterRoot.all.isEmpty, access("/proc/1/root", R_OK) != 0 {
                    #expect(
                        contents(of: note)?.contains("no BPF file system at /sys/fs/bpf") == true)
                    #expect(access(sandbox.state.folder, F_OK) != 0)
                }
            }
        }

        /// 0xe9 alone is no UTF-8.
        @Test func aCgroupWhoseNameIsNotUTF8() throws {
            try Sandbox.run { sandbox in
                let script = #"mkdir "$1/$(printf 'caf\351.service')""#
                _ = try sandbox.command(
                    "/bin/sh", ["-c", script, "sh", sandbox.cgroup.folder])
                let path = sandbox.cgroup.path + "/caf\\xe9.service"
                for name in [#"$1/$(printf 'caf\351.service')"#, #"$1/caf\xe9.service"#] {
                    let outcome = try sandbox.command(
                        "/bin/sh",
                        ["-c", #""$0" attach "\#(name)""#, tupleguard, sandbox.cgroup.folder])
                    // What other tests have done to each other is told below.
                    #expect(
                        outcome.output.hasPrefix("guarding \(path) (enforce)\n"),
                        "\(outcome.output)\(outcome.errors)")
                    #expect(try sandbox.tupleguard("status").output.contains(path))
                    let json = try sandbox.tupleguard("status", "--json").json
                    let guarded = json["guarded"] as? [JSONObject]
                    #expect(guarded?.map { $0["cgroup"] as? String } == [path])
                    #expect(try sandbox.tupleguard("detach", path).status == 0)
                }
                _ = try sandbox.command(
                    "/bin/sh", ["-c", #"rmdir "$1"/caf*"#, "sh", sandbox.cgroup.folder])
            }
        }
    }
}
