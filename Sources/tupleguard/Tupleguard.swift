// SPDX-License-Identifier: Apache-2.0
// The command `tupleguard`: its subcommands are one file each.

import ArgumentParser
import Glibc
import TupleguardKernel

@main
struct Tupleguard: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tupleguard",
        abstract: "Keeps two UDP sockets from holding one 4-tuple.",
        discussion: """
            On Linux two connected UDP sockets can have the same source and destination, address \
            and port. One of them receives, the other goes silent, and nobody is told. tupleguard \
            attaches BPF programs to a cgroup that refuse the second connect().

            EXAMPLES
              tupleguard exec -- tupleguard overshadow    see it refused
              tupleguard attach system.slice              guard every system service
              tupleguard run --cgroup system.slice        the same, with a log of refusals
              tupleguard conflicts                        who was refused, and who holds the tuple
              tupleguard lab                              what each technique does on this kernel
              tupleguard doctor                           what is wrong with this host's ports
              tupleguard shadows                          UDP sockets that are overshadowed now

            EXIT STATUS
              0   done
              1   it failed; the message says why
              3   status: no guard is attached
              doctor: 0 fine, 1 warnings, 2 critical, 3 could not look; \
            shadows: 2 when there are some.
              64  the arguments make no sense
              exec ends with the command's own status; 125: exec itself failed, \
            126: the command cannot be run, 127: there is no such command.

            ENVIRONMENT
              TUPLEGUARD_STATE  as --state        TUPLEGUARD_RUN  as --run-folder
              TUPLEGUARD_DEBUG  set: show what libbpf says
            """,
        version: "0.1.0",
        subcommands: [
            Run.self, Attach.self, Detach.self, Exec.self, Status.self, Stats.self,
            Conflicts.self, Claims.self, Overshadow.self, Connect.self, Lab.self,
            Doctor.self, Shadows.self, LabKeeperCommand.self,
        ])

    static func main() {
        occupyStandardDescriptors()
        guard access("/proc/self/cmdline", R_OK) == 0 else {
            // Swift reads the arguments there, and would see none.
            Terminal.note("Error: /proc is not mounted; try: mount -t proc proc /proc")
            Glibc.exit(EXIT_FAILURE)
        }
        on_exit({ status, _ in failUnlessWritten(status) }, nil)
        main(nil)
    }
}

/// Puts /dev/null in the place of standard descriptors that are closed. A socket would get their
/// number else, and be taken for the input or the output. Opened for reading only, it still fails
/// whoever writes to it, as what was closed would.
private func occupyStandardDescriptors() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
        // The lowest number that is free is this one (open(2)).
        _ = open("/dev/null", O_RDONLY)
    }
}

/// Where the guard's state and the agent's socket are.
struct Places: ParsableArguments {
    @Option(help: ArgumentHelp("Folder of the pinned state.", valueName: "folder"))
    var state = environment("TUPLEGUARD_STATE") ?? GuardState.defaultFolder

    @Option(help: ArgumentHelp("Folder of the agent's socket and lock.", valueName: "folder"))
    var runFolder = environment("TUPLEGUARD_RUN") ?? "/run/tupleguard"

    var guardState: GuardState { GuardState(folder: state) }

    func validate() throws {
        for (name, path) in [("--state", state), ("--run-folder", runFolder)] {
            // A BPF file system has no names with a dot in them.
            guard path.hasPrefix("/"), path.count > 1 else {
                throw ValidationError("\(name) \(path): give an absolute path")
            }
            // The name of the agent's socket has 107 bytes at most (unix(7)).
            guard path.utf8.count < 90 else {
                throw ValidationError("\(name) \(path): too long: give a path below 90 bytes")
            }
            if name == "--state" && path.contains(".") {
                throw ValidationError("\(name) \(path): give a path without dots")
            }
        }
    }
}

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
}

/// How a cgroup is to be guarded.
struct PolicyOptions: ParsableArguments {
    @Option(help: "enforce: refuse conflicts; observe: count and report them, let them through.")
    var mode: Policy.Mode = .enforce

    @Option(
        name: .customLong("errno"),
        help: "What a refused connect() fails with: EPERM, EADDRNOTAVAIL or EADDRINUSE.")
    var refusal: Policy.Refusal = .eperm

    @Option(help: "What to do with connects that the full claim table has no room for.")
    var whenFull: Policy.WhenFull = .allow

    @Option(
        help: """
            Look up each new tuple among the sockets outside the cgroup too. Its cost grows with \
            the sockets on one source address and port. auto: on, except for the root cgroup.
            """)
    var lookUp: Policy.LookUp = .auto

    @Option(
        help: """
            For which sockets that connect() without a port the guard chooses one that is free for \
            that destination. reuseaddr: those that have set SO_REUSEADDR or SO_REUSEPORT.
            """)
    var discover: Policy.Discover = .reuseaddr

    @Option(
        help: """
            What connect() fails with when every local port is taken for the destination: \
            EADDRNOTAVAIL, or EAGAIN, which the kernel gives for want of a port. Not for programs \
            on Python's asyncio or other loops that take EAGAIN to mean that the connect goes on: \
            they believe that they are connected.
            """)
    var whenExhausted: Policy.WhenExhausted = .eaddrnotavail

    @Option(
        help: """
            Claims that the table has room for (default \(Policy.defaultTableSize)); shared by all \
            guarded cgroups and fixed by the first attach.
            """)
    var tableSize: Int?

    @Flag(
        help: """
            Take nothing on trust: choose, lock and claim the port of every socket that has none, \
            whatever --discover says (one of its own for a socket that does not share), refuse a \
            port that another thread could still change, and refuse where the table is full.
            """)
    var strict = false

    var policy: Policy {
        var policy = Policy()
        policy.mode = mode
        policy.refusal = refusal
        policy.whenFull = strict ? .refuse : whenFull
        policy.isStrict = strict
        policy.lookUp = lookUp
        policy.discover = discover
        policy.whenExhausted = whenExhausted
        return policy
    }

    func validate() throws {
        if strict && mode == .observe {
            throw ValidationError("--strict refuses, --mode observe does not: choose one of them")
        }
        if let tableSize, !GuardError.tableSizes.contains(tableSize) {
            throw ValidationError(GuardError.tableSize(tableSize).description)
        }
    }
}

extension Policy.Mode: ExpressibleByArgument {}
extension Policy.WhenFull: ExpressibleByArgument {}
extension Policy.LookUp: ExpressibleByArgument {}
extension Policy.Discover: ExpressibleByArgument {}
extension Policy.WhenExhausted: ExpressibleByArgument {
    /// In either case: "EAGAIN", "eagain".
    public init?(argument: String) {
        self.init(rawValue: argument.uppercased())
    }
}
extension Policy.Refusal: ExpressibleByArgument {
    /// In either case: "EPERM", "eperm".
    public init?(argument: String) {
        self.init(rawValue: argument.uppercased())
    }
}
