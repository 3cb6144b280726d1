// SPDX-License-Identifier: Apache-2.0
// The configuration file: what it may say, and what is said of its mistakes.

import ArgumentParser
import Glibc
import Testing
import TupleguardKernel
import TupleguardLinux
import TupleguardTestSupport

@testable import tupleguard

struct ConfigurationFileTests {
    private func parse(_ text: String) throws -> AgentSettings {
        try ConfigurationFile.parse(Array(text.utf8), path: "/etc/x.conf")
    }

    /// What is said of a file that has a mistake.
    private func complaint(_ bytes: [UInt8]) -> ConfigurationError? {
        do {
            _ = try ConfigurationFile.parse(bytes, path: "/etc/x.conf")
            return nil
        } catch {
            return error as? ConfigurationError
        }
    }

    @Test("Every option arrives as from the command line")
    func everyOption() throws {
        let settings = try parse(
            """
            # A comment, and an empty line

              cgroup = system.slice
            cgroup=user.slice/with = and # in it
            mode = observe\t
            errno = EADDRINUSE
            when-full = refuse
            look-up = off
            discover = all
            when-exhausted = EAGAIN
            ports = any
            max-connections = 300
            table-size = 1024
            strict = no
            sweep-interval = 5
            on-shadow = destroy
            on-detach = fail
            detach-on-exit = yes
            """)
        let file = try settings.guardConfiguration(state: GuardState(folder: "/none"))
        let command = try Run.parse([
            "--cgroup", "system.slice", "--cgroup", "user.slice/with = and # in it", "--mode",
            "observe", "--errno", "EADDRINUSE", "--when-full", "refuse", "--look-up", "off",
            "--discover", "all", "--when-exhausted", "EAGAIN", "--table-size", "1024",
            "--max-connections", "300",
            "--sweep-interval", "5", "--on-shadow", "destroy", "--on-detach", "fail",
            "--detach-on-exit",
        ]).settings.guardConfiguration(state: GuardState(folder: "/none"))
        #expect(file.cgroups == command.cgroups)
        #expect(file.policy == command.policy)
        #expect(file.policy != Policy())
        #expect(file.tableSize == command.tableSize)
        #expect(file.sweepInterval == command.sweepInterval)
        #expect(file.onShadow == command.onShadow)
        #expect(file.onDetach == command.onDetach)
        #expect(file.detachOnExit == command.detachOnExit)
    }

    @Test("Ports of its own are for one cgroup")
    func ports() throws {
        let settings = try parse("cgroup = a\nports = 20000-29999\n")
        #expect(settings.policyOptions.policy.ports == 20000...29999)
        let error = try #require(complaint(Array("ports = 1-5\ncgroup = a\ncgroup = b\n".utf8)))
        #expect(error.line == 3)
        #expect(error.description.contains("one cgroup"), "\(error)")
    }

    @Test("Every option of the file is one of run, and of its manual page")
    func names() {
        let help = Run.helpMessage(columns: 1000)
        for name in ConfigurationFile.names {
            #expect(help.contains("--\(name)"), "\(name)")
        }
    }

    @Test("The file that is shipped says nothing, and shows every option with its default")
    func shipped() throws {
        let path =
            #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
            + "/scripts/packaging/tupleguard.conf"
        let text = try #require(contents(of: path))
        let none = try parse(text)
        #expect(none.cgroups.isEmpty && none.sweepInterval == nil && none.onShadow == nil)
        #expect(!none.policyOptions.isGiven)

        let lines = text.split(separator: "\n").filter {
            $0.hasPrefix("#") && !$0.hasPrefix("# ") && $0.contains(" = ")
        }
        let shown = try parse(lines.map { $0.dropFirst() }.joined(separator: "\n"))
        let names = lines.map { line in String(line.dropFirst().prefix { $0 != " " }) }
        #expect(Set(names) == Set(ConfigurationFile.names))
        let state = GuardState(folder: "/none")
        let file = try shown.guardConfiguration(state: state)
        let usual = try Run.parse(["--cgroup", "a"]).settings.guardConfiguration(state: state)
        #expect(file.policy == usual.policy)
        #expect(file.tableSize == Policy.defaultTableSize)
        #expect(file.sweepInterval == usual.sweepInterval)
        #expect(file.onShadow == usual.onShadow)
        #expect(file.onDetach == usual.onDetach)
        #expect(file.detachOnExit == usual.detachOnExit)
    }

    @Test("Lines may end as on other systems; the last needs no end")
    func lineEnds() throws {
        #expect(try parse("cgroup = a\r\nmode = observe\r\n").cgroups == ["a"])
        #expect(try parse("cgroup = a").cgroups == ["a"])
        #expect(try parse("").cgroups == [])
    }

    @Test(
        "A mistake is named with its line, and nothing is taken",
        arguments: [
            ("cgroup = a\nmode = enforcing\n", 2, "enforcing"),
            ("\n\ncgruop = a\n", 3, "cgruop"),
            ("cgroup\n", 1, "option = value"),
            ("[Guard]\n", 1, "option = value"),
            ("= a\n", 1, "there is no option"),
            ("cgroup =\n", 1, "cgroup"),
            ("help = yes\n", 1, "there is no option"),
            ("version = 1\n", 1, "there is no option"),
            ("--mode = observe\n", 1, "there is no option"),
            ("state = /sys/fs/bpf/x\n", 1, "there is no option"),
            ("mode = --strict\n", 1, "--strict"),
            ("strict = maybe\n", 1, "yes or no"),
            ("strict = yes # really\n", 1, "yes or no"),
            ("cgroup = a\ntable-size = 3\n", 2, "between 64 and"),
            ("table-size = many\n", 1, "many"),
            ("sweep-interval = 0\n", 1, "between 1 and 86400"),
            ("mode = enforce\ncgroup = a\nmode = observe\n", 3, "line 1"),
            // Each right by itself.
            ("cgroup = a\nmode = observe\ncgroup = b\nstrict = yes\ncgroup = c\n", 4, "--strict"),
            // Of two, the first; a line that is none is seen before what the others say.
            ("strict = yes\nmode = observe\ncgroup = a\nsweep-interval = 0\n", 2, "--strict"),
            ("table-size = 3\nsweep-interval = 0\nmode = no\n", 1, "between 64 and"),
            ("sweep-interval = 0\ncgruop = a\n", 2, "cgruop"),
            ("cgroup = a\nmode = ob\u{1}serve\n", 2, "control character"),
            ("cgroup = a\u{85}b\n", 1, "control character"),
        ])
    func mistakes(text: String, line: Int, part: String) throws {
        let error = try #require(complaint(Array(text.utf8)))
        #expect(error.line == line)
        #expect(error.description.hasPrefix("/etc/x.conf:\(line): "))
        #expect(error.description.contains(part), "\(error)")
        #expect(!error.description.unicodeScalars.contains { $0.value < 0x20 }, "\(error)")
    }

    @Test("What is not UTF-8 is refused, with its line")
    func notUTF8() throws {
        let error = try #require(complaint(Array("cgroup = a\ncgroup = ".utf8) + [0xff, 0xfe]))
        #expect(error.line == 2)
        #expect(error.description.contains("UTF-8"))
    }

    @Test("What the command line leaves open is read from the file")
    func completed() throws {
        let file = try parse("cgroup = a\ncgroup = b\nmode = observe\nsweep-interval = 5\n")
        let both = try Run.parse(["--cgroup", "c", "--errno", "EADDRINUSE"]).settings
            .completed(by: file)
        #expect(both.cgroups == ["c"])
        #expect(both.policyOptions.policy.mode == .observe)
        #expect(both.policyOptions.policy.refusal == .eaddrinuse)
        #expect(both.sweepInterval == 5)
        let overruled = try Run.parse(["--mode", "enforce"]).settings.completed(by: file)
        #expect(overruled.cgroups == ["a", "b"])
        #expect(overruled.policyOptions.policy.mode == .enforce)
    }

    @Test("What contradicts the file is refused; an option can take the file's word back")
    func contradiction() throws {
        let file = try parse("strict = yes\n")
        let observing = try Attach.parse(["--mode", "observe", "a"])
        #expect(throws: ValidationError.self) {
            try observing.policyOptions.completed(by: file.policyOptions)
        }
        let lenient = try Attach.parse(["--mode", "observe", "--no-strict", "a"])
        let policy = try lenient.policyOptions.completed(by: file.policyOptions).policy
        #expect(policy.mode == .observe)
        #expect(!policy.isStrict)
    }

    @Test("A file that cannot be read, never ends or is too long is named")
    func unreadable() throws {
        try withTemporaryFolder { folder in
            let fifo = "\(folder)/fifo"
            #expect(mkfifo(fifo, 0o600) == 0)
            #expect(try ConfigurationFile.read(fifo).cgroups == [])
            for (path, part) in [
                ("\(folder)/none", "No such file"), (folder, "directory"),
                ("/dev/zero", "longer than 65536 bytes"),
            ] {
                let error = try #require(throws: ConfigurationError.self) {
                    try ConfigurationFile.read(path)
                }
                #expect(error.description.hasPrefix(path))
                #expect(error.description.contains(part), "\(error)")
            }
        }
    }
}
