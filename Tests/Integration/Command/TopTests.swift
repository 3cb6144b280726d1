// SPDX-License-Identifier: Apache-2.0
// `top` in a terminal, driven by tmux(1) as a person would.

import Glibc
import Testing
import TupleguardKernel
import TupleguardSockets
import TupleguardTestSupport

/// A terminal of its own, in the sandbox's network namespace.
private struct Terminal: ~Copyable {
    let sandbox: Sandbox
    private let server: String

    /// Runs a shell command in it, which shows `ENDED STATUS` afterwards.
    init(_ sandbox: Sandbox, _ command: String, columns: Int = 80, rows: Int = 24) throws {
        self.sandbox = sandbox
        server = "tupleguard-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        // The server ends by itself where these tests are killed.
        let script =
            "{ sleep 1200; kill -9 $PPID; } & \(command); echo ENDED $?; stty -a | grep -o -- '-*icanon'; exec sleep 1200"
        // Foundation takes a program for running as long as anybody has what it inherited; the
        // server that this one starts must have nothing of it. Nor what the threads of tests block:
        // SIGTERM, by which `kill-server` ends it. The shell is to outlive ^C and ^\, though.
        let outcome = try sandbox.command(
            "/usr/bin/env",
            [
                "python3", "-c",
                "import signal, subprocess as s, sys; signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGINT, signal.SIGQUIT]); sys.exit(s.run(sys.argv[1:], stdin=s.DEVNULL, stdout=s.DEVNULL, stderr=s.DEVNULL).returncode)",
                "tmux", "-L", server, "-f", "/dev/null", "new-session", "-d",
                "-x", "\(columns)", "-y", "\(rows)", script,
            ])
        #expect(outcome.status == 0)
    }

    deinit {
        _ = try? sandbox.command("/usr/bin/env", ["tmux", "-L", server, "kill-server"])
    }

    @discardableResult
    func tmux(_ arguments: String...) throws -> String {
        let outcome = try sandbox.command("/usr/bin/env", ["tmux", "-L", server] + arguments)
        #expect(outcome.status == 0, "tmux \(arguments): \(outcome.errors)")
        return outcome.output
    }

    func press(_ keys: String...) throws {
        for key in keys { try tmux("send-keys", key) }
    }

    func screen() throws -> String { try tmux("capture-pane", "-p") }

    /// Whether the screen comes to show this.
    func shows(_ text: String) throws -> Bool {
        try eventually { try screen().contains(text) }
    }
}

extension IntegrationTests {
    @Suite struct Tops {
        private func top(_ sandbox: Sandbox, _ options: String = "") -> String {
            "\(Sandbox.program("tupleguard")) top --interval 0.2 --namespace self --state \(sandbox.state.folder) --run-folder \(sandbox.runFolder) \(options)"
        }

        /// Two destinations, a refusal, and whoever is to blame for them.
        private func makeSomethingToSee(_ sandbox: Sandbox) throws {
            try sandbox.attach(Policy())
            for port in UInt16(40_000)..<40_020 {
                let socket = try sandbox.socket(bound: "127.0.0.1:\(port)")
                #expect(socket.connect("127.0.0.1:53") == nil)
            }
            let other = try sandbox.socket(bound: "127.0.0.1:41000")
            #expect(other.connect("127.0.0.9:443") == nil)
            let late = try sandbox.socket(bound: "127.0.0.1:40000")
            #expect(late.connect("127.0.0.1:53") == "EPERM")
        }

        @Test func showsWhatThereIsAndObeysItsKeys() throws {
            try Sandbox.run { sandbox in
                try makeSomethingToSee(sandbox)
                let terminal = try Terminal(sandbox, top(sandbox))
                #expect(try terminal.shows("1 cgroup guarded, no agent"))
                #expect(try terminal.shows("claimed"))
                for part in [
                    "127.0.0.1:53", "28,212", "21 of 1,024",
                    "refused 127.0.0.1:40000 -> 127.0.0.1:53", "q quit  s sort",
                ] {
                    let isShown = try terminal.shows(part)
                    let screen = try terminal.screen()
                    #expect(isShown, "\(part): \(screen)")
                }
                try terminal.press("/")
                try terminal.press("443", "Enter")
                #expect(try terminal.shows("filter: 443"))
                #expect(try eventually { try !terminal.screen().contains("28,212") })
                #expect(try terminal.shows("127.0.0.9:443"))
                try terminal.press("Escape", "s")
                #expect(try terminal.shows("by time to full"))
                try terminal.press("p")
                #expect(try terminal.shows("PAUSED"))
                try terminal.press("h")
                #expect(try terminal.shows("sort destinations"))
                try terminal.press("q")
                #expect(try terminal.shows("ENDED 0"))
                // Line editing is back, and so is what the screen had before.
                #expect(try terminal.shows("\nicanon"))
                #expect(try !terminal.screen().contains("tupleguard top"))
            }
        }

        @Test func followsTheSizeOfItsWindow() throws {
            try Sandbox.run { sandbox in
                try makeSomethingToSee(sandbox)
                let terminal = try Terminal(sandbox, top(sandbox))
                #expect(try terminal.shows("q quit"))
                try terminal.tmux("resize-window", "-x", "60", "-y", "12")
                let fits = try eventually {
                    let lines = try terminal.screen().split(
                        separator: "\n", omittingEmptySubsequences: false)
                    return lines.count == 13 && lines[11].hasPrefix("q quit")
                        && lines[0].hasPrefix("tupleguard top")
                }
                let screen = try terminal.screen()
                #expect(fits, "\(screen)")
            }
        }

        @Test(arguments: [("C-c", 130), ("C-\\", 131)])
        func givesTheTerminalBackWhenItIsInterrupted(key: String, status: Int) throws {
            try Sandbox.run { sandbox in
                let terminal = try Terminal(sandbox, "ulimit -c 0; \(top(sandbox))")
                #expect(try terminal.shows("q quit"))
                try terminal.press(key)
                #expect(try terminal.shows("ENDED \(status)"))
                #expect(try terminal.shows("\nicanon"))
            }
        }

        @Test(arguments: [SIGTERM, SIGHUP, SIGSEGV])
        func givesTheTerminalBackWhenItIsKilled(signal: Int32) throws {
            try Sandbox.run { sandbox in
                let terminal = try Terminal(
                    sandbox,
                    "ulimit -c 0; sh -c 'echo $$ >\(sandbox.runFolder).pid; exec \(top(sandbox))'")
                defer { unlink("\(sandbox.runFolder).pid") }
                #expect(try terminal.shows("q quit"))
                let pid = try sandbox.command("/bin/cat", ["\(sandbox.runFolder).pid"]).output
                kill(Int32(pid.dropLast())!, signal)
                let hasEnded = try terminal.shows("ENDED \(128 + signal)")
                let screen = try terminal.screen()
                #expect(hasEnded, "\(screen)")
                #expect(try terminal.shows("\nicanon"))
            }
        }

        @Test func stopsAndGoesOn() throws {
            try Sandbox.run { sandbox in
                let terminal = try Terminal(sandbox, "bash --norc -i")
                try terminal.press("PS1=ready:", "Enter")
                #expect(try terminal.shows("\nready:"))
                try terminal.press(top(sandbox), "Enter")
                #expect(try terminal.shows("q quit"))
                try terminal.press("C-z")
                #expect(try terminal.shows("Stopped"))
                try terminal.press("fg", "Enter")
                #expect(try terminal.shows("q quit"))
                try terminal.press("q")
                #expect(try eventually { try !terminal.screen().contains("q quit") })
                try terminal.press("exit", "Enter")
                #expect(try terminal.shows("ENDED 0"))
            }
        }

        @Test func printsOneFrameWhereThereIsNoTerminal() throws {
            try Sandbox.run { sandbox in
                try makeSomethingToSee(sandbox)
                let outcome = try sandbox.tupleguard("top", "--interval", "0.1")
                #expect(outcome.status == 0)
                #expect(outcome.output.contains("21 of 1,024"))
                #expect(outcome.output.contains("127.0.0.9:443"))
                #expect(!outcome.output.contains("\u{1B}"))
                #expect(!outcome.output.contains("q quit"))
            }
        }

        @Test func needsNoGuard() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.tupleguard("top", "--interval", "0.1")
                #expect(outcome.status == 0)
                #expect(outcome.output.contains("no guard, no agent"))
            }
        }
    }
}
