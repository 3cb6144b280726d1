// SPDX-License-Identifier: Apache-2.0
// What the agent writes, and what becomes of it when nobody reads.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct AgentOutput {
        private let tupleguard = Sandbox.program("tupleguard")

        private func collide(_ sandbox: Sandbox, port: UInt16) throws -> Bool {
            let sockets = try (0..<2).map { _ in try sandbox.socket(bound: "127.0.0.1:\(port)") }
            defer { for socket in sockets { sandbox.close(socket) } }
            return sockets[0].connect("127.0.0.1:6000") == nil
                && sockets[1].connect("127.0.0.1:6000") == "EPERM"
        }

        /// Its standard error is a pipe that is full and that nobody reads.
        @Test func aLogThatNobodyReadsHoldsNothingUp() throws {
            try Sandbox.run { sandbox in
                let script = """
                    pipe=/tmp/tupleguard-full-$$; mkfifo $pipe; exec 3<>$pipe; rm $pipe
                    head -c 65536 /dev/zero >&3
                    exec "$@" 2>&3
                    """
                let agent = try sandbox.start(
                    "/bin/sh",
                    [
                        "-c", script, "sh", tupleguard, "run", "--log-format", "text", "--cgroup",
                        sandbox.cgroup.folder,
                    ])
                #expect(eventually { access("\(sandbox.runFolder)/agent.sock", F_OK) == 0 })
                let follower = try sandbox.start(tupleguard, ["conflicts", "--follow"])
                let isSeen = try eventually { () throws in
                    try collide(sandbox, port: 5000)
                        && follower.outputSoFar.contains("refused 127.0.0.1:5000")
                }
                #expect(isSeen)
                #expect(try sandbox.tupleguard("detach", "--all").status == 0)
                let isBack = try eventually { () throws in try collide(sandbox, port: 7000) }
                #expect(isBack)
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
                _ = follower.wait()
            }
        }

        /// Other users' programs have to come to the notices' socket.
        @Test(arguments: [(mode_t(0o750), true), (0o751, false)])
        func whoCannotReportIsNamed(_ mode: mode_t, _ isSaid: Bool) throws {
            try Sandbox.run { sandbox in
                try Errno.check { mkdir(sandbox.runFolder, mode) }
                try Errno.check { chmod(sandbox.runFolder, mode) }
                let agent = try sandbox.start(tupleguard, ["run", "--scan"])
                sandbox.endWithSandbox(agent)
                #expect(eventually { agent.errorsSoFar.contains("ready, looking") })
                agent.signal(SIGTERM)
                let words = "only root's programs can report"
                #expect(agent.wait().errors.contains(words) == isSaid, "\(agent.errorsSoFar)")
            }
        }

        /// systemd says which stream is the journal's (JOURNAL_STREAM). Where no journal listens
        /// its entries come to standard error all the same, with a priority in front.
        @Test(
            .enabled(
                if: access("/run/systemd/journal/socket", F_OK) != 0,
                "a journal listens here, and would have the entries"),
            arguments: [("$(stat -L -c %d:%i /proc/self/fd/2)", true), ("1:1", false)])
        func theJournalIsWrittenToWhereItReads(_ stream: String, _ isJournal: Bool) throws {
            try Sandbox.run { sandbox in
                let script = "JOURNAL_STREAM=\(stream); export JOURNAL_STREAM; exec \"$@\""
                let agent = try sandbox.start(
                    "/bin/sh", ["-c", script, "sh", tupleguard, "run", "--scan"])
                sandbox.endWithSandbox(agent)
                #expect(eventually { agent.errorsSoFar.contains("ready, looking") })
                agent.signal(SIGTERM)
                #expect(agent.wait().errors.hasPrefix("<") == isJournal, "\(agent.errorsSoFar)")
            }
        }

        /// Two sockets on one tuple, made by a process in a cgroup that is gone afterwards.
        private func collideAndGo(_ sandbox: Sandbox, _ name: String) throws -> Cgroup {
            let child = try sandbox.makeChild(name)
            let script = """
                import socket
                for _ in range(2):
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", 5000))
                    try: s.connect(("127.0.0.1", 6000))
                    except PermissionError: print("refused")
                    globals()["keep%d" % id(s)] = s
                """
            let outcome = try sandbox.command(
                "/usr/bin/env", ["python3", "-c", script], in: child)
            #expect(outcome.output == "refused\n", "\(outcome.errors)")
            return child
        }

        @Test func theCgroupOfAProcessThatIsGoneKeepsItsName() throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent()
                let child = try collideAndGo(sandbox, "oneshot.service")
                #expect(eventually { agent.errorsSoFar.contains("refused 127.0.0.1:5000") })
                #expect(eventually { rmdir(child.folder) == 0 })
                let text = try sandbox.tupleguard("conflicts").output
                #expect(text.contains("uid 0) in \(child.path)\n"), "\(text)")
                let json = try sandbox.tupleguard("conflicts", "--json").output
                #expect(json.contains(#""cgroup":"\#(child.path)""#), "\(json)")
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }

        /// Right-to-left, C1's "next line", a line separator, and a title for the terminal.
        private static let evil = "evil\u{202e}\u{85}\u{2028}\u{1b}]0;x\u{7}.service"

        @Test(arguments: ["text", "json"])
        func namesCannotDriveATerminal(_ format: String) throws {
            try Sandbox.run { sandbox in
                let agent = try sandbox.startAgent(["--log-format", format])
                let child = try collideAndGo(sandbox, Self.evil)
                let path = sandbox.cgroup.path + "/" + Self.evil
                #expect(eventually { agent.errorsSoFar.contains("127.0.0.1:5000") })
                var texts = [agent.errorsSoFar]
                for arguments in [
                    ["attach", path], ["status"], ["status", "--json"], ["stats"], ["claims"],
                    ["claims", "--json"], ["conflicts"], ["conflicts", "--json"],
                    ["attach", path], ["detach", path], ["detach", path], ["attach", path + "/no"],
                    ["doctor", "--sample", "0"],
                ] {
                    let outcome = try sandbox.command(tupleguard, arguments)
                    texts += [outcome.output, outcome.errors]
                }
                for text in texts {
                    let unfit = text.unicodeScalars.filter {
                        $0.isUnfitToBeShown && $0 != "\n"
                    }
                    #expect(unfit.isEmpty, "\(text.debugDescription)")
                }
                // In JSON the name is what it is.
                let json = try jsonObject(try sandbox.tupleguard("conflicts", "--json").output)
                let conflicts = json["conflicts"] as? [JSONObject] ?? []
                // Others' may be among them: the agent reports what sockets from before share.
                let claimants = conflicts.map {
                    (($0["last"] as? JSONObject)?["claimant"] as? JSONObject)?["cgroup"] as? String
                }
                #expect(claimants.contains(path), "\(claimants)")
                rmdir(child.folder)
                agent.signal(SIGTERM)
                #expect(agent.wait().status == 0)
            }
        }
    }
}
