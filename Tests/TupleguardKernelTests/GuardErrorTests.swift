// SPDX-License-Identifier: Apache-2.0
// Error messages: one sentence that names the thing, the cause and the remedy.

import Glibc
import Testing
import TupleguardSockets

@testable import TupleguardKernel

struct GuardErrorTests {
    @Test(
        "Each names what is concerned, why, and what to do",
        arguments: [
            (
                .notPermitted(missing: ["CAP_BPF", "CAP_PERFMON"]),
                ["not permitted", "CAP_BPF, CAP_PERFMON", "sudo"]
            ),
            (
                .kernelTooOld(release: "5.10.0-28"),
                ["5.10.0-28", "too old", "6.1", "run --scan", "--userspace"]
            ),
            (.noBTF, ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]),
            (
                .noBPFFileSystem(path: "/sys/fs/bpf", errno: Errno(EPERM)),
                ["/sys/fs/bpf", "EPERM", "mount -t bpf bpf /sys/fs/bpf"]
            ),
            (.alreadyAttached(path: "/a.slice"), ["/a.slice", "attach --replace /a.slice"]),
            (.notAttached(path: "/a.slice"), ["/a.slice", "tupleguard status"]),
            (
                .programInTheWay(
                    hook: .connect4, program: "program 17 (legacy)", path: "/cg/a.slice"),
                ["connect4", "program 17 (legacy)", "bpftool cgroup show /cg/a.slice", "multi"]
            ),
            (
                .otherABI(path: "/sys/fs/bpf/x", found: 4711),
                ["/sys/fs/bpf/x", "4711", "\(GuardState.abi)", "detach --all"]
            ),
            (
                .damagedState(path: "/sys/fs/bpf/x", why: "it is odd"),
                ["/sys/fs/bpf/x", "it is odd", "detach --all"]
            ),
            (.noGuard(path: "/sys/fs/bpf/x"), ["/sys/fs/bpf/x", "tupleguard attach"]),
            (.tableSize(0), ["0 entries", "out of range", "64", "16777216"]),
            (.tableSizeFixed(existing: 128, asked: 256), ["128", "256", "detach --all"]),
            (
                .locked(path: "/run/x.lock", by: "another agent"),
                ["/run/x.lock", "another agent", "stop it"]
            ),
            (
                .failed(what: "pin a map", errno: Errno(ENOSPC), detail: "make room"),
                ["cannot pin a map", "No space left on device (ENOSPC)", "make room"]
            ),
        ] as [(GuardError, [String])])
    func messages(error: GuardError, parts: [String]) {
        let text = "\(error)"
        for part in parts { #expect(text.contains(part), "\(part) is not in: \(text)") }
        #expect(!text.contains("\n"))
        #expect(!text.hasSuffix("."))
    }

    @Test("Where there is no detail, the message ends with the errno")
    func noDetail() {
        let error = GuardError.failed(what: "pin a map", errno: Errno(EPERM), detail: "")
        #expect("\(error)" == "cannot pin a map: Operation not permitted (EPERM)")
    }

    @Test("A call that succeeds hands on its result")
    func performed() throws {
        #expect(try perform("do nothing") { Int32(17) } == 17)
    }

    @Test("A call that fails says what it was for")
    func notPerformed() {
        let error = #expect(throws: GuardError.self) {
            try perform("open the moon") { open("/proc/that-is-not-there", O_RDONLY) }
        }
        guard case .failed(let what, let errno, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(what == "open the moon")
        #expect(errno == Errno(ENOENT))
    }
}
