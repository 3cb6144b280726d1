// SPDX-License-Identifier: Apache-2.0
// An agent that says it guards does: whatever others do to the guard meanwhile.

import CTupleguardLibbpf
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct AgentDuties {
        private let tupleguard = Sandbox.program("tupleguard")
        /// It is said with each status that is not retried.
        private let notToBeRetried: Int32 = 78
        private static let tookOff = " warning somebody took the guard off /"

        /// Whether the second of two sockets on one tuple is refused.
        private func isGuarded(_ sandbox: Sandbox, in cgroup: Cgroup? = nil) throws -> Bool {
            let sockets = try (0..<2).map { _ in
                try sandbox.socket(bound: "127.0.0.1:5000", in: cgroup)
            }
            defer { for socket in sockets { sandbox.close(socket) } }
            #expect(sockets[0].connect("127.0.0.1:6000") == nil)
            return sockets[1].connect("127.0.0.1:6000") == "EPERM"
        }

        @Test func aGuardThatOthersTakeOffIsPutOnAgain() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                #expect(try sandbox.tupleguard("detach", "--all").status == 0)
                #expect(try !isGuarded(sandbox))
                let isBack = try eventually { () throws in try isGuarded(sandbox) }
                #expect(isBack)
                #expect(eventually { agent.errorsSoFar.contains(Self.tookOff) })
                // It hears of what the new guard refuses, too.
                #expect(eventually { agent.errorsSoFar.contains("refused 127.0.0.1:5000") })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        /// The pins stay, and look as if all were well.
        @Test func aLinkThatIsEndedByForceIsNoticed() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let folder = sandbox.state.attachmentFolder(sandbox.cgroup.id)
                try Link(pinned: "\(folder)/guard_connect4").detach()
                let isBack = try eventually { () throws in try isGuarded(sandbox) }
                #expect(isBack)
                #expect(eventually { agent.errorsSoFar.contains(Self.tookOff) })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        @Test func oneThatIsToldToGivesUpInstead() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent(["--on-detach", "fail"])
                #expect(try sandbox.tupleguard("detach", "--all").status == 0)
                let outcome = agent.wait()
                #expect(outcome.status == notToBeRetried)
                #expect(outcome.errors.contains("Error: somebody took the guard off /"))
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func theStatusFollowsWhatIsGuarded() throws {
            try Sandbox.run { sandbox in
                let manager = try PretendedServiceManager()
                let child = try sandbox.makeChild("service")
                let agent = try sandbox.start(
                    tupleguard,
                    ["run", "--cgroup", sandbox.cgroup.folder, "--cgroup", child.folder],
                    environment: ["NOTIFY_SOCKET": manager.path])
                func says(_ status: String) -> Bool {
                    eventually { manager.messages.last?.hasPrefix("STATUS=" + status) == true }
                }
                #expect(
                    eventually {
                        manager.messages.first?.contains("STATUS=guarding 2 of 2 cgroups\n") == true
                    })
                rmdir(child.folder)
                #expect(says("guarding 1 of 2 cgroups; missing, waited for: \(child.folder)"))
                let again = try sandbox.makeChild("service")
                #expect(says("guarding 2 of 2 cgroups"))
                #expect(try isGuarded(sandbox, in: again))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        @Test func aCgroupThatIsNotThereYetIsWaitedFor() throws {
            try Sandbox.run { sandbox in
                let folder = sandbox.cgroup.folder + "/service"
                let agent = try sandbox.start(tupleguard, ["run", "--cgroup", folder])
                #expect(
                    eventually {
                        agent.errorsSoFar.contains("ready, guarding 0 of 1 cgroup; missing")
                    }, "\(agent.errorsSoFar)")
                let child = try sandbox.makeChild("service")
                #expect(eventually { agent.errorsSoFar.contains("guarding \(child.path) (") })
                #expect(try isGuarded(sandbox, in: child))
                #expect(eventually { agent.errorsSoFar.contains("refused 127.0.0.1:5000") })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        /// The second cgroup has a program that tolerates no other.
        @Test func aStartThatFailsHalfWayLeavesNothing() throws {
            try Sandbox.run { sandbox in
                let child = try sandbox.makeChild("taken")
                let other = GuardState(folder: sandbox.state.folder + "-other")
                let programs = try other.loadHooks(
                    for: child, policy: Policy(), tableSize: 64, keepingCounters: false)
                let folder = try OwnedDescriptor(path: child.folder, flags: O_RDONLY)
                let program = programs.program(Hook.connect4.rawValue)
                try Errno.check {
                    bpf_prog_attach(program, folder.raw, Hook.connect4.attachType, 0)
                }
                let outcome = try sandbox.tupleguard(
                    "run", "--cgroup", sandbox.outside.path, "--cgroup", child.path)
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("allows no other beside it"))
                #expect(try !isGuarded(sandbox, in: sandbox.outside))
                #expect(access(sandbox.state.folder, F_OK) != 0)
            }
        }

        @Test func whatCannotBecomeACgroupIsAMistake() throws {
            try Sandbox.run { sandbox in
                for name in ["/tmp", sandbox.cgroup.folder + "/cgroup.procs"] {
                    let outcome = try sandbox.tupleguard(
                        "run", "--cgroup", sandbox.outside.path, "--cgroup", name)
                    #expect(outcome.status == notToBeRetried, "\(name): \(outcome.errors)")
                    #expect(access(sandbox.state.folder, F_OK) != 0)
                }
                #expect(try sandbox.tupleguard("run").status == 64)
            }
        }

        @Test func aHangUpIsNoEnd() throws {
            try Sandbox.run { sandbox in
                let manager = try PretendedServiceManager()
                for arguments in [["--cgroup", sandbox.cgroup.folder], ["--scan"]] {
                    let agent = try sandbox.start(
                        tupleguard, ["run"] + arguments,
                        environment: ["NOTIFY_SOCKET": manager.path])
                    #expect(eventually { agent.errorsSoFar.contains("ready, ") })
                    for count in 1...2 {
                        agent.signal(SIGHUP)
                        #expect(
                            eventually {
                                agent.errorsSoFar.split(separator: "\n").count {
                                    $0.contains("reloaded")
                                } == count
                            })
                    }
                    agent.signal(SIGTERM)
                    #expect(agent.wait().status == 0)
                }
                let reloads = manager.messages.indices.filter {
                    manager.messages[$0].hasPrefix("RELOADING=1\nMONOTONIC_USEC=")
                }
                #expect(reloads.count == 4)
                for index in reloads {
                    #expect(manager.messages[index + 1].hasPrefix("READY=1\n"))
                }
            }
        }

        @Test func aGuardWithoutAWorkingAgentIsCalledThat() throws {
            try Sandbox.run { sandbox in
                func status() throws -> String { try sandbox.tupleguard("status").output }
                func diagnosed() throws -> String? {
                    let outcome = try sandbox.tupleguard(
                        "doctor", "--namespace", "self", "--sample", "0", "--json")
                    let findings = try outcome.json["findings"] as? [JSONObject] ?? []
                    return findings.first { $0["kind"] as? String == "guard-without-agent" }?[
                        "severity"] as? String
                }
                let agent = try sandbox.startAgent()
                func says(_ words: String) throws -> Bool {
                    try eventually { () throws in try status().contains(words) }
                }
                func exits(_ code: Int32) throws -> Bool {
                    try eventually { () throws in
                        try sandbox.tupleguard("status", "--agent").status == code
                    }
                }
                #expect(try says("running (pid \(agent.pid)), guarding 1 of 1 cgroup\n"))
                #expect(try eventually { () throws in try diagnosed() == nil })
                #expect(try exits(0))
                agent.signal(SIGSTOP)
                #expect(try says("but hangs (guard without agent): stopped by a signal"))
                #expect(try diagnosed() == "warning")
                #expect(try exits(3))
                agent.signal(SIGCONT)
                #expect(try says("running (pid \(agent.pid)), guarding"))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                #expect(try status().contains("not running (guard without agent)"))
                #expect(try diagnosed() == "info")
                #expect(try sandbox.tupleguard("status", "--agent").status == 3)
            }
        }

        /// Whoever may connect and asks nothing. (Programs and maps take some 65 descriptors, so
        /// with fewer the agent does not begin, and says why.)
        private static let idle = """
            import socket, sys, time, resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            held = []
            for _ in range(int(sys.argv[2])):
                s = socket.socket(socket.AF_UNIX); s.setblocking(False)
                try: s.connect(sys.argv[1])
                except BlockingIOError: time.sleep(0.001)
                held.append(s)
            print("up", flush=True); time.sleep(600)
            """

        @Test(arguments: ["1024", "80"])
        func idleConnectionsAreLimited(_ descriptors: String) throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.start(
                    "/bin/sh",
                    [
                        "-c", "ulimit -n $1; shift; exec \"$@\"", "sh", descriptors, tupleguard,
                        "run", "--cgroup", sandbox.cgroup.folder,
                    ])
                #expect(eventually { agent.errorsSoFar.contains("ready, guarding") })
                let socket = sandbox.runFolder + "/agent.sock"
                let idle = try sandbox.start(
                    "/usr/bin/env", ["python3", "-c", Self.idle, socket, "2000"])
                sandbox.endWithSandbox(idle)
                #expect(eventually { idle.outputSoFar.contains("up") }, "\(idle.errorsSoFar)")
                #expect(try isGuarded(sandbox))
                #expect(eventually { agent.errorsSoFar.contains("refused 127.0.0.1:5000") })
                let open = names(in: "/proc/\(agent.pid)/fd").count
                #expect(open < min(160, Int(descriptors)!))
                // Who asks nothing is not waited for, so that others have their turn.
                let answers = try eventually { () throws in
                    try sandbox.tupleguard("status").output.contains("), guarding 1 of 1 cgroup")
                }
                #expect(answers)
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        @Test func descriptorsThatAreClosedFromTheStartDoNoHarm() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.start(
                    "/bin/sh",
                    [
                        "-c", "exec \"$@\" <&- >&- 2>&-", "sh", tupleguard, "run", "--cgroup",
                        sandbox.cgroup.folder,
                    ])
                let isReady = try eventually { () throws in
                    try sandbox.tupleguard("status").output.contains("), guarding 1 of 1 cgroup")
                }
                #expect(isReady)
                #expect(try isGuarded(sandbox))
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                // Nothing was written into what took the place of one of them.
                #expect(try sandbox.tupleguard("conflicts").output.contains("127.0.0.1:5000"))
            }
        }

        /// Without CAP_SYS_PTRACE it may not know where other processes are; a filter may keep it
        /// from going there.
        @Test(arguments: [
            (
                ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"],
                "could not be looked into"
            ),
            (
                [
                    "python3", "-c",
                    denial + "deny(308, 268); import sys; os.execv(sys.argv[1], sys.argv[1:])",
                ],
                "could not be looked into (Operation not permitted (EPERM))"
            ),
        ])
        func namespacesThatCannotBeLookedIntoAreToldOf(_ limited: [String], _ words: String) throws
        {
            try Sandbox.run { sandbox in
                let agent = try sandbox.start(
                    "/usr/bin/env",
                    limited + [tupleguard, "run", "--cgroup", sandbox.cgroup.folder])
                #expect(eventually { agent.errorsSoFar.contains("ready, guarding") })
                #expect(eventually { agent.errorsSoFar.contains(words) })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        /// The work is what says so, several times in the time that the manager waits.
        @Test func theWatchdogIsFedByTheWork() throws {
            try Sandbox.run { sandbox in
                let manager = try PretendedServiceManager()
                let agent = try sandbox.start(
                    tupleguard, ["run", "--cgroup", sandbox.cgroup.folder],
                    environment: ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "2000000"])
                #expect(eventually { manager.messages.count { $0 == "WATCHDOG=1" } >= 3 })
                agent.signal(SIGSTOP)
                let fed = manager.messages.count
                usleep(1_200_000)
                #expect(manager.messages.count <= fed + 1)
                agent.signal(SIGCONT)
                #expect(eventually { manager.messages.count > fed + 1 })
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }
    }
}
