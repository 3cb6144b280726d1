// SPDX-License-Identifier: Apache-2.0
// The command `tupleguard`: its subcommands are one file each.

import ArgumentParser
import Glibc
import TupleguardLinux

/// The version of everything in this package: scripts/connectx-library reads it here.
let version = "0.1.0"

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
              78  the configuration file has a mistake; the message says in which line
              exec ends with the command's own status; 125: exec itself failed, \
            126: the command cannot be run, 127: there is no such command.

            ENVIRONMENT
              TUPLEGUARD_STATE  as --state        TUPLEGUARD_RUN  as --run-folder
              TUPLEGUARD_CONFIG as --config       TUPLEGUARD_DEBUG  set: show what libbpf says
            """,
        version: version,
        subcommands: [
            Run.self, Attach.self, Detach.self, Exec.self, Status.self, Stats.self,
            Conflicts.self, Claims.self, Overshadow.self, Connect.self, Lab.self,
            Doctor.self, Shadows.self, Metrics.self, Top.self, LabKeeperCommand.self,
            BindLauncherCommand.self,
        ])

    static func main() {
        occupyStandardDescriptors()
        guard access("/proc/self/cmdline", R_OK) == 0 else {
            // Swift reads the arguments there, and would see none.
            Terminal.note("Error: /proc is not mounted; try: mount -t proc proc /proc")
            Glibc.exit(EXIT_FAILURE)
        }
        // While there is one thread.
        CgroupNamespace.joinThatOfProcessOne()
        PodNames.system.use(.ofEnvironment)
        on_exit({ status, _ in failUnlessWritten(status) }, nil)
        main(arguments)
    }

    /// The arguments; in what is not UTF-8 Swift's own have lost what it was.
    private static var arguments: [String]? {
        bytes(of: "/proc/self/cmdline").map { bytes in
            bytes.split(separator: 0, omittingEmptySubsequences: false).dropFirst().dropLast()
                .map { fileName($0) }
        }
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
