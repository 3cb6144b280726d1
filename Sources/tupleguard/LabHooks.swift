// SPDX-License-Identifier: Apache-2.0
// What the lab attaches for its rows that need BPF, on a cgroup made for it; and the
// process that takes it all away when the lab is killed.

import ArgumentParser
import Glibc
import TupleguardKernel
import TupleguardLab
import TupleguardLinux
import TupleguardSockets

/// A cgroup for this process to be in while a hook is attached, and a guard's state of its own.
struct LabHooks: ~Copyable {
    /// A hook that cannot be attached here.
    struct Refusal: Error {
        let why: String
    }

    private let keeper: KeeperProcess
    private let temporary: TemporaryCgroup
    private let ownFolder: String
    private let state: GuardState
    private var lookUp: LookUpHook?

    init() throws {
        try Platform.check()
        let hierarchy = try CgroupHierarchy()
        LabState.removeAbandoned()
        // First, so that there is never a cgroup without it.
        let keeper = try KeeperProcess()
        let temporary = try TemporaryCgroup(in: hierarchy)
        self.keeper = keeper
        self.temporary = temporary
        ownFolder = hierarchy.ownFolder
        state = LabState.of(process: getpid())
    }

    /// Attaches a hook, and moves this process under it.
    mutating func attach(_ hook: TupleguardLab.Hook) throws(Refusal) {
        do {
            switch hook {
            case .lookUp: lookUp = try LookUpHook(attachingTo: temporary.cgroup)
            case .guard, .portDiscovery:
                var policy = Policy()
                policy.lookUp = .off
                policy.discover = hook == .portDiscovery ? .all : .off
                try state.attach(temporary.cgroup, policy: policy, tableSize: Self.tableSize)
            }
            try Cgroup.enter(temporary.cgroup.folder)
        } catch {
            detach()
            throw Refusal(why: "\(error)")
        }
    }

    /// Claims that there is room for: a row has a few hundred sockets at most.
    private static let tableSize = 4096

    /// Goes back to where this process came from, and takes the hook off.
    mutating func detach() {
        try? Cgroup.enter(ownFolder)
        lookUp = nil
        LabState.remove(state)
    }

    deinit {
        try? Cgroup.enter(ownFolder)
        LabState.remove(state)
    }
}

/// The folders in which guards of the lab are pinned, one for each process.
private enum LabState {
    private static let parent = "/sys/fs/bpf"
    private static let prefix = "tupleguard-lab-"

    static func of(process: Int32) -> GuardState {
        GuardState(folder: "\(parent)/\(prefix)\(process)")
    }

    static func remove(_ state: GuardState) {
        if access(state.folder, F_OK) == 0 { try? state.detachAll() }
    }

    /// What labs left behind that were killed together with their keepers.
    static func removeAbandoned() {
        for name in names(in: parent) where name.hasPrefix(prefix) {
            guard let process = Int32(name.dropFirst(prefix.count)), kill(process, 0) != 0,
                errno == ESRCH
            else { continue }
            remove(of(process: process))
            TemporaryCgroup.removeMade(by: process)
        }
    }
}

/// A child that outlives the lab, for as long as it takes to tidy up after it.
private struct KeeperProcess: ~Copyable {
    private let pid: pid_t
    /// It reads the other end, and finds it closed when the lab is no more.
    private let life: OwnedDescriptor

    init() throws(Errno) {
        var ends: [Int32] = [-1, -1]
        try Errno.check {
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        let readEnd = OwnedDescriptor(taking: ends[0])
        let life = OwnedDescriptor(taking: ends[1])
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, readEnd.raw, STDIN_FILENO)
        // Out of reach of the terminal's signals, and of whoever waits for the end of the output.
        for output in [STDOUT_FILENO, STDERR_FILENO] {
            posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY, 0)
        }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        let command = ["tupleguard", LabKeeper.configuration.commandName!, "\(getpid())"]
        var arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let failure = posix_spawn(
            &pid, "/proc/self/exe", &actions, &attributes, &arguments, environ)
        if failure != 0 { throw Errno(failure) }
        self.pid = pid
        self.life = life
    }

    deinit {
        // Nothing is left to be tidied up.
        kill(pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    }
}

/// `tupleguard lab-keeper`, which `lab` starts.
struct LabKeeper: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab-keeper",
        abstract: "Tidy up after a lab: started by it, ends with it.",
        shouldDisplay: false)

    @Argument(help: "The lab's process.")
    var process: Int32

    func run() throws {
        var byte: UInt8 = 0
        // Nothing is ever written: it returns when the other end is closed, by the lab or its end.
        while read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR {}
        LabState.remove(LabState.of(process: process))
        TemporaryCgroup.removeMade(by: process)
    }
}
