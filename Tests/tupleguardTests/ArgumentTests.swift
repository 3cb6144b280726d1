// SPDX-License-Identifier: Apache-2.0
// Arguments of every subcommand: defaults, what is taken, what is refused and in which words.

import ArgumentParser
import Glibc
import Testing
import TupleguardAgent
import TupleguardKernel
import TupleguardSockets

@testable import tupleguard

struct RootTests {
    @Test("Every subcommand is there, and its help has examples")
    func subcommands() {
        let commands = Tupleguard.configuration.subcommands.filter {
            $0.configuration.shouldDisplay
        }
        let names = commands.map { $0._commandName }
        #expect(
            names == [
                "run", "attach", "detach", "exec", "status", "stats", "conflicts", "claims",
                "overshadow", "connect", "lab", "doctor", "shadows",
                "metrics", "top",
            ])
        for command in commands {
            #expect(!command.configuration.abstract.isEmpty, "\(command)")
            #expect(command.configuration.discussion.contains("EXAMPLES"), "\(command)")
        }
    }

    @Test("Every example in the help can be parsed")
    func examples() throws {
        var count = 0
        let commands: [any ParsableCommand.Type] =
            [Tupleguard.self] + Tupleguard.configuration.subcommands
        for command in commands {
            let lines = command.configuration.discussion.split(separator: "\n")
            for line in lines where line.hasPrefix("  tupleguard ") {
                // What stands apart, after two spaces or more, is said of the example.
                let example = line.dropFirst(2).split(separator: /\s{2,}/)[0]
                // Where its output goes is for the shell to read.
                let words = example.split(separator: " ").prefix { $0 != ">" }
                let refusal = complaint(words.dropFirst().map(String.init))
                #expect(refusal == nil, "\(example): \(refusal?.message ?? "")")
                count += 1
            }
        }
        #expect(count >= Tupleguard.configuration.subcommands.count)
    }

    @Test(
        "Help is no error, and says what it is about",
        arguments: [
            ("--help", "EXIT STATUS"), ("help", "EXIT STATUS"), ("-h", "EXIT STATUS"),
            ("help exec", "fresh guarded cgroup"), ("exec --help", "fresh guarded cgroup"),
        ])
    func help(line: String, part: String) throws {
        var command = try Tupleguard.parseAsRoot(line.split(separator: " ").map(String.init))
        try #require("\(type(of: command))" == "HelpCommand")
        let error = try #require(throws: (any Error).self) { try command.run() }
        #expect(Tupleguard.exitCode(for: error) == .success)
        #expect(Tupleguard.message(for: error).contains(part))
    }

    @Test("The version is no error")
    func version() throws {
        let answer = try #require(complaint(["--version"]))
        #expect(answer.status == 0)
        #expect(answer.message.contains(#/^\d+\.\d+\.\d+$/#))
    }

    @Test("A subcommand or option that does not exist is named")
    func unknown() {
        expectRefusal("gaurd", "gaurd")
        expectRefusal("status --jsn", "--jsn")
        expectRefusal("attach --table-szie 5 x", "--table-szie")
        expectRefusal("status extra", "extra")
    }

    @Test(
        "Subcommands that only show take no policy",
        arguments: ["status", "stats", "conflicts", "claims", "detach --all"])
    func noPolicy(line: String) {
        expectRefusal(line + " --mode=observe", "--mode")
        #expect(complaint(line.split(separator: " ").map(String.init)) == nil)
    }
}

struct AttachArgumentTests {
    @Test("Defaults")
    func defaults() throws {
        let attach = try parse(Attach.self, "attach system.slice")
        #expect(attach.cgroup == "system.slice")
        #expect(!attach.replace)
        #expect(attach.policyOptions.policy == Policy())
        #expect(attach.policyOptions.tableSize == nil)
    }

    @Test("One cgroup, or those of the configuration file")
    func cgroup() throws {
        expectRefusal("attach a b", "b")
        #expect(try parse(Attach.self, "attach").cgroup == nil)
    }

    @Test("Every part of the policy arrives")
    func policy() throws {
        let line =
            "attach --replace --mode observe --errno EADDRINUSE --when-full refuse --look-up off --discover all --when-exhausted EAGAIN --max-connections 300 --table-size 1024 a"
        let attach = try parse(Attach.self, line)
        #expect(attach.replace)
        #expect(attach.policyOptions.tableSize == 1024)
        var policy = Policy()
        policy.mode = .observe
        policy.refusal = .eaddrinuse
        policy.whenFull = .refuse
        policy.lookUp = .off
        policy.discover = .all
        policy.whenExhausted = .eagain
        policy.maxConnections = 300
        #expect(attach.policyOptions.policy == policy)
    }

    @Test("A number of connections that can be counted, or 0 for no limit")
    func maxConnections() throws {
        func limit(_ text: String) throws -> Int? {
            try parse(Attach.self, "attach --max-connections \(text) a").policyOptions.policy
                .maxConnections
        }
        #expect(try limit("1") == 1)
        #expect(try limit("1048576") == 1_048_576)
        #expect(try limit("0") == nil)
        for text in ["-1", "1048577", "many"] {
            expectRefusal("attach --max-connections=\(text) a", "max-connections")
        }
    }

    @Test("--strict refuses where the table is full, and does not go with observing")
    func strict() throws {
        let policy = try parse(Attach.self, "attach --strict a").policyOptions.policy
        #expect(policy.isStrict)
        #expect(policy.whenFull == .refuse)
        expectRefusal("attach --strict --mode observe a", "--strict")
    }

    @Test("--ports is a range of ports, and chooses what --mode observe leaves alone")
    func ports() throws {
        func ports(_ text: String) throws -> ClosedRange<UInt16>? {
            try parse(Attach.self, "attach --ports \(text) a").policyOptions.policy.ports
        }
        #expect(try parse(Attach.self, "attach a").policyOptions.policy.ports == nil)
        #expect(try ports("20000-29999") == 20000...29999)
        #expect(try ports("5000-5000") == 5000...5000)
        #expect(try ports("1-65535") == 1...65535)
        #expect(try ports("any") == nil)
        for wrong in [
            "0-10", "10", "10-", "-10", "10-9", "1-65536", "1-2-3", "a-b", "+1-5", "1–5", "1 - 5",
            "1-+5", "1:5", "99999999999999999999-1",
        ] {
            expectRefusal(["attach", "--ports=\(wrong)", "a"], "--ports", wrong)
        }
        expectRefusal(
            ["attach", "--ports", "5000-6000", "--mode", "observe", "a"], "--ports", "observe")
        expectRefusal(
            ["run", "--ports", "5000-6000", "--cgroup", "a", "--cgroup", "b"], "--ports",
            "one cgroup")
    }

    @Test("Every value that a policy has can be asked for")
    func values() throws {
        for mode in Policy.Mode.allCases {
            #expect(
                try parse(Attach.self, "attach --mode \(mode.rawValue) a").policyOptions.mode
                    == mode)
        }
        for lookUp in Policy.LookUp.allCases {
            let attach = try parse(Attach.self, "attach --look-up \(lookUp.rawValue) a")
            #expect(attach.policyOptions.lookUp == lookUp)
        }
        for whenFull in Policy.WhenFull.allCases {
            let attach = try parse(Attach.self, "attach --when-full \(whenFull.rawValue) a")
            #expect(attach.policyOptions.whenFull == whenFull)
        }
        for discover in Policy.Discover.allCases {
            let attach = try parse(Attach.self, "attach --discover \(discover.rawValue) a")
            #expect(attach.policyOptions.discover == discover)
        }
        for whenExhausted in Policy.WhenExhausted.allCases {
            for word in [whenExhausted.rawValue, whenExhausted.rawValue.lowercased()] {
                let attach = try parse(Attach.self, "attach --when-exhausted \(word) a")
                #expect(attach.policyOptions.whenExhausted == whenExhausted, "\(word)")
            }
        }
        for refusal in Policy.Refusal.allCases {
            for word in [
                refusal.rawValue, refusal.rawValue.lowercased(), refusal.rawValue.capitalized,
            ] {
                let attach = try parse(Attach.self, "attach --errno \(word) a")
                #expect(attach.policyOptions.refusal == refusal, "\(word)")
            }
        }
    }

    @Test("A value that there is none of is named, with those that there are")
    func wrongValues() {
        expectRefusal(
            ["attach", "--mode", "strict", "a"], "strict", "--mode", "enforce", "observe")
        expectRefusal(
            ["attach", "--errno", "EINVAL", "a"], "EINVAL", "--errno", "EPERM", "EADDRINUSE")
        expectRefusal(
            ["attach", "--when-full", "wait", "a"], "wait", "--when-full", "allow", "refuse")
        expectRefusal(["attach", "--look-up", "maybe", "a"], "maybe", "--look-up", "auto", "off")
        expectRefusal(["attach", "--discover", "some", "a"], "some", "--discover", "reuseaddr")
        expectRefusal(
            ["attach", "--when-exhausted", "EPERM", "a"], "EPERM", "--when-exhausted", "EAGAIN")
        expectRefusal(["attach", "--mode", "", "a"], "--mode")
        expectRefusal(["attach", "--mode", "Enforce", "a"], "Enforce")
        expectRefusal(["attach", "a", "--mode"], "--mode")
    }

    @Test(
        "A table size that is out of range is refused, with the range",
        arguments: [
            "0", "1", "63", "-1", "16777217", "4294967296", "4294967360", "9223372036854775807",
            "-9223372036854775808",
        ])
    func absurdTableSize(size: String) {
        for command in [["attach", "a"], ["run", "--cgroup", "a"], ["exec", "--", "ls"]] {
            expectRefusal(
                [command[0], "--table-size=\(size)"] + command.dropFirst(), size, "64", "16777216")
        }
    }

    @Test(
        "A table size that is no number is refused",
        arguments: ["many", "1k", "1.5", "1e6", "0x100", "9223372036854775808", " 64", "64 "])
    func tableSizeNoNumber(size: String) {
        expectRefusal(["attach", "--table-size=\(size)", "a"], "--table-size", "'\(size)'")
    }

    @Test("The smallest and the largest table", arguments: [64, 65, 262_144, 16_777_216])
    func tableSize(size: Int) throws {
        #expect(
            try parse(Attach.self, "attach --table-size \(size) a").policyOptions.tableSize == size)
    }
}

struct DetachArgumentTests {
    @Test("A cgroup, or all")
    func either() throws {
        let one = try parse(Detach.self, "detach system.slice")
        #expect(one.cgroup == "system.slice")
        #expect(!one.all)
        let all = try parse(Detach.self, "detach --all")
        #expect(all.cgroup == nil)
        #expect(all.all)
    }

    @Test("Not neither, not both")
    func exactlyOne() {
        expectRefusal("detach", "give either a cgroup or --all")
        expectRefusal("detach --all a", "give either a cgroup or --all")
        expectRefusal("detach a b", "b")
    }
}

struct ExecArgumentTests {
    @Test("Defaults, and the command as it was given")
    func defaults() throws {
        let exec = try parse(Exec.self, "exec -- ls -l /tmp")
        #expect(exec.command == ["ls", "-l", "/tmp"])
        #expect(!exec.json)
        #expect(!exec.quiet)
        #expect(exec.policyOptions.policy == Policy())
    }

    @Test("What stands after -- is the command's, whatever it looks like")
    func terminator() throws {
        let exec = try parse(
            Exec.self, "exec --json --mode observe -- tupleguard exec --quiet --mode enforce -- ls")
        #expect(exec.json)
        #expect(!exec.quiet)
        #expect(exec.policyOptions.mode == .observe)
        #expect(
            exec.command == [
                "tupleguard", "exec", "--quiet", "--mode", "enforce", "--", "ls",
            ])
        #expect(try parse(Exec.self, "exec -- --help").command == ["--help"])
    }

    @Test("An argument may be empty, or have spaces")
    func oddArguments() throws {
        let command = try Tupleguard.parseAsRoot(["exec", "--", "printf", "", " a b ", "%s\n"])
        #expect((command as? Exec)?.command == ["printf", "", " a b ", "%s\n"])
    }

    @Test("A command is needed, after --")
    func noCommand() {
        expectRefusal("exec", "give a command after --")
        expectRefusal("exec --", "give a command after --")
        expectRefusal("exec --json --", "give a command after --")
        expectRefusal("exec ls", "ls")
        expectRefusal("exec ls -- ls", "ls")
    }
}

struct RunArgumentTests {
    @Test("Defaults")
    func defaults() throws {
        let run = try parse(Run.self, "run --cgroup system.slice")
        #expect(run.logFormat == nil)
        let configuration = try run.settings.guardConfiguration(state: GuardState(folder: "/none"))
        #expect(configuration.cgroups == ["system.slice"])
        #expect(!configuration.detachOnExit)
        #expect(configuration.sweepInterval == .seconds(60))
        #expect(configuration.onShadow == .report)
        #expect(configuration.policy == Policy())
    }

    @Test("Several cgroups, in order")
    func cgroups() throws {
        let run = try parse(
            Run.self, "run --cgroup a --cgroup b --log-format json --detach-on-exit --cgroup c")
        #expect(run.settings.cgroups == ["a", "b", "c"])
        #expect(run.logFormat == .json)
        #expect(run.settings.detachOnExit == true)
    }

    @Test("At least one, here or in the configuration file")
    func noCgroup() throws {
        expectRefusal("run a", "a")
        let settings = try parse(Run.self, "run").settings
        let error = try #require(throws: ValidationError.self) {
            try settings.guardConfiguration(state: GuardState(folder: "/none"))
        }
        #expect(error.message.contains("--cgroup"))
    }

    @Test("Formats of the log")
    func logFormat() {
        expectRefusal(["run", "--cgroup", "a", "--log-format", "xml"], "xml", "text", "json")
    }

    @Test("How often to sweep", arguments: ["0", "-1", "86401", "9223372036854775807"])
    func absurdInterval(seconds: String) {
        expectRefusal(
            ["run", "--cgroup", "a", "--sweep-interval=\(seconds)"], seconds, "between 1 and 86400")
    }

    @Test("The shortest and the longest interval", arguments: [1, 86_400])
    func interval(seconds: Int) throws {
        #expect(
            try parse(Run.self, "run --cgroup a --sweep-interval \(seconds)").settings
                .sweepInterval == seconds)
    }
}

struct ShowArgumentTests {
    @Test("Status")
    func status() throws {
        #expect(!(try parse(Status.self, "status").json))
        #expect(try parse(Status.self, "status --json").json)
    }

    @Test("Stats")
    func stats() throws {
        let stats = try parse(Stats.self, "stats")
        #expect(!stats.json)
        #expect(stats.watch == nil)
        #expect(try parse(Stats.self, "stats --watch 1").watch == 1)
        #expect(try parse(Stats.self, "stats --json --watch 3600").watch == 3600)
        for seconds in ["0", "-1", "3601"] {
            expectRefusal(["stats", "--watch=\(seconds)"], seconds, "between 1 and 3600")
        }
        expectRefusal("stats --watch", "--watch")
        expectRefusal("stats --watch often", "often")
    }

    @Test("Conflicts")
    func conflicts() throws {
        let conflicts = try parse(Conflicts.self, "conflicts")
        #expect(!conflicts.json)
        #expect(!conflicts.follow)
        #expect(conflicts.limit == nil)
        #expect(try parse(Conflicts.self, "conflicts --limit 1").limit == 1)
        #expect(try parse(Conflicts.self, "conflicts --follow --json").follow)
        expectRefusal("conflicts --limit 0", "--limit 0: at least 1")
        expectRefusal("conflicts --limit=-5", "--limit -5: at least 1")
        expectRefusal("conflicts --follow --limit 5", "--follow has no --limit")
    }

    @Test("Claims")
    func claims() throws {
        let claims = try parse(Claims.self, "claims")
        #expect(claims.address == nil && claims.port == nil && claims.pid == nil)
        #expect(claims.cgroup == nil && !claims.json)
        let filtered = try parse(
            Claims.self, "claims --address 192.0.2.53 --port 53 --pid 4711 --cgroup a --json")
        #expect(filtered.address == IPAddress("192.0.2.53"))
        #expect(filtered.port == 53)
        #expect(filtered.pid == 4711)
        #expect(filtered.cgroup == "a")
        #expect(filtered.json)
        for text in ["2001:db8::1", "[2001:db8::1]", "::ffff:192.0.2.1"] {
            #expect(try parse(Claims.self, "claims --address \(text)").address == IPAddress(text))
        }
    }

    @Test("Filters that nothing can match are named")
    func wrongFilters() {
        expectRefusal(["claims", "--address", "example.com"], "example.com", "--address")
        expectRefusal(["claims", "--address", "192.0.2.256"], "192.0.2.256")
        expectRefusal(["claims", "--address", ""], "--address")
        expectRefusal(["claims", "--port", "65536"], "65536", "--port")
        expectRefusal(["claims", "--port=-1"], "-1", "--port")
        expectRefusal(["claims", "--port", "dns"], "dns", "--port")
        expectRefusal(["claims", "--pid=-1"], "-1", "--pid")
        expectRefusal(["claims", "--pid", "4294967296"], "4294967296", "--pid")
    }

    @Test("Overshadow")
    func overshadow() throws {
        #expect(try parse(Overshadow.self, "overshadow").family == .v4)
        #expect(try parse(Overshadow.self, "overshadow --family 6").family == .v6)
        #expect(try parse(Overshadow.self, "overshadow --family mixed").family == .mixed)
        expectRefusal(["overshadow", "--family", "5"], "5", "4", "6", "mixed")
    }
}

struct FolderTests {
    @Test("Where things are when nothing else is said")
    func defaults() async {
        await #expect(processExitsWith: .success) {
            for name in ["TUPLEGUARD_STATE", "TUPLEGUARD_RUN"] { unsetenv(name) }
            let folders = try parse(Status.self, "status").folders
            #expect(folders.state == "/sys/fs/bpf/tupleguard")
            #expect(folders.runFolder == "/run/tupleguard")
            #expect(folders.guardState.folder == folders.state)
        }
    }

    @Test("The environment says where, and an argument says it louder")
    func environment() async {
        await #expect(processExitsWith: .success) {
            setenv("TUPLEGUARD_STATE", "/sys/fs/bpf/from-environment", 1)
            setenv("TUPLEGUARD_RUN", "/run/from.environment", 1)
            let folders = try parse(Status.self, "status").folders
            #expect(folders.state == "/sys/fs/bpf/from-environment")
            #expect(folders.runFolder == "/run/from.environment")
            let told = try parse(Status.self, "status --state /sys/fs/bpf/x --run-folder /run/x")
                .folders
            #expect(told.state == "/sys/fs/bpf/x")
            #expect(told.runFolder == "/run/x")
            setenv("TUPLEGUARD_STATE", "", 1)
            #expect(try parse(Status.self, "status").folders.state == "/sys/fs/bpf/tupleguard")
        }
    }

    @Test("What the environment says is checked like an argument")
    func wrongEnvironment() async {
        await #expect(processExitsWith: .success) {
            setenv("TUPLEGUARD_STATE", "relative", 1)
            expectRefusal("status", "relative")
        }
    }

    @Test("Every subcommand with state takes both folders")
    func everywhere() throws {
        for line in [
            "run --cgroup a", "attach a", "detach a", "status", "stats", "conflicts", "claims",
        ] {
            let arguments = (line + " --state /sys/fs/bpf/x --run-folder /run/x")
                .split(separator: " ").map(String.init)
            #expect(complaint(arguments) == nil, "\(line)")
        }
        let exec = try parse(Exec.self, "exec --state /sys/fs/bpf/x --run-folder /run/x -- ls")
        #expect(exec.folders.state == "/sys/fs/bpf/x")
    }

    @Test(
        "A folder has an absolute path, shorter than a socket's name",
        arguments: ["--state", "--run-folder"])
    func validation(option: String) {
        let longest = "/" + String(repeating: "x", count: 88)
        #expect(complaint(["status", option, longest]) == nil)
        for path in ["", "relative", "./x", "/", longest + "x", "~/x"] {
            expectRefusal(["status", option, path], option)
        }
    }

    @Test("The state's folder has no dot in it, as a BPF file system has none; the other may")
    func dots() throws {
        expectRefusal("status --state /sys/fs/bpf/a.b", "/sys/fs/bpf/a.b")
        expectRefusal("status --state /sys/fs/bpf/../x", "without dots")
        #expect(
            try parse(Status.self, "status --run-folder /run/a.b").folders.runFolder == "/run/a.b")
    }

    @Test("The message says what is wrong with the path")
    func messages() {
        let path = "/" + String(repeating: "x", count: 200)
        expectRefusal(["status", "--state", path], "long")
    }
}

struct UserspaceArgumentTests {
    @Test("What goes with one kind of agent only is refused with the other")
    func kinds() throws {
        #expect(try parse(Run.self, "run --scan --interval 5").interval == 5)
        #expect(try parse(Run.self, "run --scan").interval == nil)
        // What it was called first.
        #expect(try parse(Run.self, "run --userspace --interval 5").interval == 5)
        expectRefusal("run --scan --cgroup a", "give no --cgroup")
        expectRefusal("run --scan --detach-on-exit", "give no --detach-on-exit")
        expectRefusal("run --scan --mode observe", "give no policy")
        expectRefusal("run --scan --table-size 4096", "give no policy")
        expectRefusal("run --cgroup a --interval 5", "goes with --scan")
        expectRefusal("run --scan --interval 0", "--interval 0")
    }
}
