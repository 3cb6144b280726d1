// SPDX-License-Identifier: Apache-2.0
// What the lab attaches for its rows that need BPF, on a cgroup made for it.

import Glibc
import TupleguardKernel
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

    /// - Parameter keeper: the arguments with which this program calls `LabKeeper.keep`.
    init(keeper arguments: [String]) throws {
        try Platform.check()
        let hierarchy = try CgroupHierarchy()
        LabState.removeAbandoned()
        // First, so that there is never a cgroup without it.
        let keeper = try KeeperProcess(arguments)
        let temporary = try TemporaryCgroup(in: hierarchy)
        self.keeper = keeper
        self.temporary = temporary
        ownFolder = hierarchy.ownFolder
        state = LabState.of(process: getpid())
    }

    /// Attaches a hook, and moves this process under it.
    mutating func attach(_ hook: RequiredHook) throws(Refusal) {
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

    /// Claims that there is room for: a row has 10,000 sockets and a few hundred at most.
    private static let tableSize = 16_384

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
