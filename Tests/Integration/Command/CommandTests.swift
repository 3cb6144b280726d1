// SPDX-License-Identifier: Apache-2.0
// The command as people and scripts use it.

import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Commands {
        private let tupleguard = Sandbox.program("tupleguard")

        @Test func execShowsTheRefusalAndLeavesNothing() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard("exec", "--", tupleguard, "overshadow")
                #expect(outcome.status == 0)
                #expect(outcome.output.contains("It was refused: Operation not permitted (EPERM)."))
                #expect(outcome.output.contains("the first socket received 10"))
                #expect(outcome.errors.contains("1 UDP connect guarded, 1 refused"))
                #expect(outcome.errors.contains("claimant  tupleguard (pid "))
                #expect(outcome.errors.contains("holder    tupleguard (pid "))
                #expect(access(sandbox.state.folder, F_OK) != 0)
                #expect(leftovers(outcome).isEmpty)
            }
        }

        /// Cgroups of exec that no process stands behind.
        private func leftovers(_ outcome: Sandbox.Outcome) -> [String] {
            let mount = (try? CgroupHierarchy())?.mountPoint ?? ""
            return names(in: mount).filter { name in
                guard name.hasPrefix("tupleguard-exec-") else { return false }
                return Int32(name.dropFirst("tupleguard-exec-".count)).map { kill($0, 0) != 0 }
                    ?? false
            }
        }

        @Test(arguments: ["4", "6", "mixed"])
        func overshadowShowsTheProblemWithoutAGuard(_ family: String) throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard("overshadow", "--family", family, "--json")
                let report = try jsonObject(outcome.output)
                #expect(report["refused"] as? Bool == false)
                let received = [report["received_by_first"], report["received_by_second"]]
                #expect(received.compactMap { $0 as? Int }.sorted() == [0, 10])
                let guarded = try sandbox.tupleguard(
                    "exec", "--quiet", "--", tupleguard, "overshadow", "--family", family, "--json")
                let refusal = try jsonObject(guarded.output)
                #expect(refusal["errno"] as? String == "EPERM")
                #expect(refusal["received_by_first"] as? Int == 10)
            }
        }

        @Test func execEndsWithTheCommandsStatus() throws {
            try Sandbox.run { sandbox in
                #expect(try sandbox.tupleguard("exec", "--", "sh", "-c", "exit 7").status == 7)
                #expect(
                    try sandbox.tupleguard("exec", "--", "sh", "-c", "kill -9 $$").status == 137)
                let missing = try sandbox.tupleguard("exec", "--", "/no/such/command")
                #expect(missing.status == 127)
                #expect(missing.errors.contains("cannot run /no/such/command"))
                #expect(try sandbox.tupleguard("exec", "--", "/dev/null").status == 126)
                #expect(try sandbox.tupleguard("exec").status == 64)
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func execHandsSignalsOnAndCleansUp() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    tupleguard,
                    [
                        "exec", "--", "sh", "-c",
                        "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done",
                    ])
                #expect(eventually { run.outputSoFar.contains("up") })
                run.signal(SIGTERM)
                let outcome = run.wait()
                #expect(outcome.status == 5)
                #expect(leftovers(outcome).isEmpty)
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func execEndsWhatTheCommandLeftRunning() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard(
                    "exec", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
                #expect(outcome.status == 0)
                let pid = try #require(Int32(outcome.output.filter(\.isNumber)))
                #expect(eventually { kill(pid, 0) != 0 })
                #expect(outcome.errors.contains("ended 1 process that the command left running"))
                #expect(leftovers(outcome).isEmpty)
            }
        }

        @Test func whatAKilledExecLeftIsRemovedByTheNext() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    tupleguard, ["exec", "--", "sh", "-c", "echo up; sleep 1000"])
                #expect(eventually { run.outputSoFar.contains("up") })
                let attachment = try #require(try sandbox.state.attachments().first)
                run.signal(SIGKILL)
                // Its child holds our pipe open until it is ended too.
                Cgroup.killAll(in: sandbox.hierarchy.mountPoint + attachment.path!)
                _ = run.wait()
                #expect(try sandbox.state.attachments().count == 1)
                #expect(
                    try eventually { () throws in
                        try sandbox.tupleguard("exec", "--", "true").status == 0
                            && access(sandbox.state.folder, F_OK) != 0
                    })
                #expect(sandbox.hierarchy.path(of: attachment.id) == nil)
            }
        }

        /// Nor a command that has moved below, whatever became of its exec.
        @Test func whatStillRunsIsNotLeftOver() throws {
            try Sandbox.run { sandbox in
                let script = """
                    folder=\(sandbox.hierarchy.mountPoint)$(sed -n s/^0:://p /proc/self/cgroup)
                    mkdir "$folder/below"
                    echo $$ >"$folder/below/cgroup.procs"
                    echo up
                    sleep 1000
                    """
                let run = try sandbox.start(tupleguard, ["exec", "--", "sh", "-c", script])
                #expect(eventually { run.outputSoFar.contains("up") })
                let attachment = try #require(try sandbox.state.attachments().first)
                let folder = sandbox.hierarchy.mountPoint + attachment.path!
                run.signal(SIGKILL)
                // The next ones leave it alone.
                #expect(try sandbox.tupleguard("exec", "--", "true").status == 0)
                #expect(Cgroup.isPopulated(folder))
                #expect(try sandbox.state.attachments().map(\.id) == [attachment.id])
                Cgroup.killAll(in: folder)
                _ = run.wait()
                #expect(
                    try eventually { () throws in
                        try sandbox.tupleguard("exec", "--", "true").status == 0
                            && access(sandbox.state.folder, F_OK) != 0
                    })
                #expect(access(folder, F_OK) != 0)
            }
        }

        @Test func tooFewDescriptorsAreNamed() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.command(
                    "/bin/sh", ["-c", "ulimit -n 12; exec \(tupleguard) exec -- true"])
                #expect(outcome.status == 125)
                #expect(outcome.errors.contains("ulimit -n"), "\(outcome.errors)")
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        /// Whoever starts it may ignore signals of children, and read nothing of what it says.
        @Test func execTidiesUpWhoeverStartsIt() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import os, signal, sys
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                    unread, written = os.pipe()
                    os.close(unread)
                    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                    os.dup2(written, 2)
                    os.execv(sys.argv[1], sys.argv[1:])
                    """
                let outcome = try sandbox.command(
                    "/usr/bin/python3",
                    ["-c", script, tupleguard, "exec", "--", "sh", "-c", "echo went; exit 7"])
                #expect(outcome.output == "went\n")
                #expect(outcome.status == 7)
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func execReportsJSON() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard(
                    "exec", "--json", "--", tupleguard, "overshadow")
                let report = try jsonObject(outcome.errors)
                #expect(report["refused"] as? Int == 1)
                #expect(report["exit_status"] as? Int == 0)
                let conflicts = try #require(report["conflicts"] as? [[String: Any]])
                // Beside it there may be what others' sockets shared before.
                let refused = try #require(
                    conflicts.compactMap { $0["last"] as? [String: Any] }
                        .first { $0["reason"] as? String == "held" })
                let holder = refused["holder"] as? [String: Any]
                #expect(holder?["command"] as? String == "tupleguard")
            }
        }

        /// What sockets of others came to between themselves is none of its command's doing.
        @Test func execReportsItsOwnConflictsAlone() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    tupleguard,
                    [
                        "exec", "--json", "--", "sh", "-c",
                        "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done",
                    ])
                #expect(eventually { run.outputSoFar.contains("up") })
                // Which of several it meets cannot be told: see anOutsiderThatPerhapsMeetsNobody.
                let others = try [1, 2].map { number in
                    let socket = try sandbox.socket(
                        bound: "127.0.0.\(number):5000", in: sandbox.outside)
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                    return socket
                }
                sandbox.close(others[0])
                let last = try sandbox.socket(bound: "0.0.0.0:5000", in: sandbox.outside)
                #expect(last.connect("127.0.0.1:6000") == nil)
                let mine = try sandbox.namespaceCookie()
                let met = try sandbox.state.conflicts().filter {
                    $0.last.networkNamespace == mine && $0.last.reason == .ambiguous
                }
                #expect(met.count == 1)
                run.signal(SIGTERM)
                let report = try jsonObject(run.wait().errors)
                #expect((report["conflicts"] as? [JSONObject])?.isEmpty == true, "\(report)")
            }
        }

        /// Each with its own limits; the kernel's own connects stay out of it.
        @Test func execSaysWhatItsLimitsDid() throws {
            try Sandbox.run { sandbox in
                let script = """
                    import socket
                    server = socket.create_server(('127.0.0.1', 7443))
                    kept = [socket.socket() for _ in range(5)]
                    for s in kept: s.connect_ex(('127.0.0.1', 7443))
                    """
                func errors(_ options: String...) throws -> String {
                    try sandbox.command(
                        tupleguard, ["exec"] + options + ["--", "/usr/bin/python3", "-c", script]
                    ).errors
                }
                let ports = try errors("--ports", "23470-23472")
                #expect(
                    ports.contains(
                        "3 TCP connects given a port, 2 refused (2 for want of a port)"),
                    "\(ports)")
                #expect(ports.contains("no port left for 127.0.0.1:7443 (tcp)"), "\(ports)")
                let budget = try errors("--max-connections", "1")
                #expect(
                    budget.contains("1 connect counted, 4 refused (4 beyond the budget)"),
                    "\(budget)")
                let both = try errors("--ports", "23470-23472", "--max-connections", "4")
                #expect(
                    both.contains(
                        "3 TCP connects given a port, 5 connects counted, 2 refused (2 for want of a port)"
                    ), "\(both)")
                #expect(!both.contains("UDP"), "\(both)")
            }
        }

        /// What one guard refused is not told by another's report of the same destination.
        @Test func guardsCountTheirRefusalsApart() throws {
            try Sandbox.run { sandbox in
                let server = try sandbox.socket(.tcp4, bound: "127.0.0.1:7000", in: sandbox.outside)
                try Errno.check { listen(server.descriptor, 16) }
                let other = try sandbox.makeSibling("other")
                var policy = Policy()
                policy.maxConnections = 1
                for (cgroup, attempts) in [(sandbox.cgroup, 4), (other, 3)] {
                    try sandbox.attach(policy, to: cgroup)
                    for _ in 0..<attempts {
                        _ = try sandbox.socket(.tcp4, in: cgroup).connect("127.0.0.1:7000")
                    }
                }
                let conflicts = try sandbox.state.conflicts()
                for (cgroup, refused) in [(sandbox.cgroup, 3), (other, 2)] {
                    let own = conflicts.filter { $0.last.guardedCgroupId == cgroup.id }
                    #expect(own.map(\.count) == [UInt64(refused)])
                }
            }
        }

        @Test func attachStatusStatsConflictsClaimsDetach() throws {
            try Sandbox.run { sandbox in
                #expect(try sandbox.tupleguard("status").status == 3)
                let attach = try sandbox.tupleguard(
                    "attach", "--errno", "eaddrinuse", "--table-size", "4096", sandbox.cgroup.path)
                #expect(attach.status == 0, "\(attach.errors)")
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(.v6, bound: "[::ffff:127.0.0.1]:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("[::ffff:127.0.0.1]:6000") == "EADDRINUSE")

                let status = try jsonObject(try sandbox.tupleguard("status", "--json").output)
                #expect(status["table_size"] as? Int == 4096)
                let guarded = try #require((status["guarded"] as? [[String: Any]])?.first)
                #expect(guarded["cgroup"] as? String == sandbox.cgroup.path)
                #expect(guarded["errno"] as? String == "EADDRINUSE")
                #expect((guarded["programs"] as? [Any])?.count == 5)

                let stats = try jsonObject(try sandbox.tupleguard("stats", "--json").output)
                #expect((stats["total"] as? [String: Int])?["refused_held"] == 1)

                let conflicts = try sandbox.tupleguard("conflicts")
                #expect(conflicts.output.contains("127.0.0.1:5000 -> 127.0.0.1:6000"))
                #expect(conflicts.output.contains("holder"))
                #expect(!conflicts.output.contains("\u{1B}"))  // no colour into a pipe

                let namespace = try sandbox.namespaceCookie()
                for (filter, count) in [
                    (["--port", "5000"], 1), (["--port", "5999"], 0),
                    (["--address", "127.0.0.1"], 1),
                    (["--address", "::1"], 0), (["--pid", "\(getpid())"], 1), (["--pid", "1"], 0),
                    (["--port", "6000", "--cgroup", "/"], 1),
                    (["--port", "6000", "--cgroup", sandbox.outside.path], 0),
                ] {
                    let claims = try sandbox.command(
                        Sandbox.program("tupleguard"), ["claims", "--json"] + filter)
                    let listed = try #require(
                        try jsonObject(claims.output)["claims"] as? [[String: Any]])
                    let ours = listed.filter {
                        $0["local"] as? String == "127.0.0.1:5000"
                            && $0["network_namespace"] as? UInt32 == namespace
                    }
                    #expect(ours.count == count, "\(filter)")
                }
                #expect(try sandbox.tupleguard("detach", sandbox.cgroup.path).status == 0)
                #expect(try sandbox.tupleguard("status").status == 3)
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func faultsAreOneSentenceWithARemedy() throws {
            try Sandbox.run { sandbox in
                let file = sandbox.cgroup.folder + "/cgroup.procs"
                for (arguments, expected) in [
                    (["attach", "/no/such/cgroup"], "there is no such folder"),
                    (["attach", file], "it is a file; a cgroup is a folder"),
                    (["attach", "/tmp"], "it is not in the cgroup v2 hierarchy"),
                    (["attach", ""], "the path is empty"),
                    (["detach", sandbox.cgroup.path], "no guard is attached"),
                    (["conflicts"], "no guard is attached"),
                    (["claims"], "no guard is attached"),
                    (["stats"], "no guard is attached"),
                    (["conflicts", "--follow"], "cannot reach the agent"),
                ] {
                    let outcome = try sandbox.command(tupleguard, arguments)
                    #expect(outcome.status == 1, "\(arguments)")
                    #expect(outcome.errors.contains(expected), "\(arguments): \(outcome.errors)")
                    #expect(outcome.errors.hasPrefix("Error: "))
                    #expect(outcome.errors.split(separator: "\n").count == 1)
                }
                for arguments in [
                    ["attach", "--table-size", "0", "x"],
                    ["attach", "--table-size", "99999999999", "x"],
                    ["attach", "--errno", "EIO", "x"], ["attach", "--mode", "maybe", "x"],
                    ["detach"],
                    ["detach", "--all", "x"], ["run"], ["claims", "--port", "70000"],
                    ["frobnicate"],
                ] {
                    #expect(try sandbox.command(tupleguard, arguments).status == 64, "\(arguments)")
                }
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func withoutRootItSaysWhatIsMissing() throws {
            try Sandbox.run { sandbox in
                for arguments in [
                    ["attach", sandbox.cgroup.path], ["detach", "--all"], ["status"], ["claims"],
                    ["run", "--cgroup", sandbox.cgroup.path], ["exec", "--", "true"],
                ] {
                    let outcome = try sandbox.command(tupleguard, arguments, asNobody: true)
                    let status: [String: Int32] = ["exec": 125, "run": 78]
                    #expect(outcome.status == status[arguments[0]] ?? 1, "\(arguments)")
                    #expect(
                        outcome.errors.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"),
                        "\(arguments): \(outcome.errors)")
                }
                #expect(try sandbox.tupleguard("overshadow", asNobody: true).status == 0)
            }
        }

        @Test func aLockThatIsHeldIsNamed() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let lock = try OwnedDescriptor(path: sandbox.state.folder, flags: O_RDONLY)
                #expect(flock(lock.raw, LOCK_EX) == 0)
                let outcome = try sandbox.tupleguard("detach", sandbox.cgroup.path)
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("another process is changing the guard"))
                _ = lock
            }
        }
    }
}

/// Not in the suite above, so that it cannot be skipped with it.
@Test func integrationTestsRunWhereTheyCan() {
    if ProcessInfo.processInfo.environment["TUPLEGUARD_REQUIRE_INTEGRATION"] != nil {
        #expect(cannotRunBPF == nil, "the integration tests were skipped: \(cannotRunBPF ?? "")")
    }
}
