// SPDX-License-Identifier: Apache-2.0
// A test's own corner of the machine: cgroups, network namespaces, and a state
// folder that nothing else uses. All of it goes when the test ends, and what a
// crashed run left behind goes when the next one begins.

import CTupleguardTestSupport
import Foundation
import Glibc
import Synchronization
package import TupleguardKernel
package import TupleguardLinux
package import TupleguardSockets

/// Whether this process may do what the integration tests do; nil if so, else why not.
///
/// With TUPLEGUARD_WITHOUT_BPF those are asked for that need none, on a kernel that is too old for
/// the guard; a filter has to choose them.
package let cannotRunBPF: String? = {
    if getuid() != 0 { return "integration tests need root" }
    do {
        if ProcessInfo.processInfo.environment["TUPLEGUARD_WITHOUT_BPF"] == nil {
            try Platform.check()
        }
        _ = try CgroupHierarchy()
        return nil
    } catch {
        return "\(error)"
    }
}()

package final class Sandbox: Sendable {
    package let hierarchy: CgroupHierarchy
    /// The cgroup over the others, which stands for the root where outsiders are seen: what one
    /// test attaches there is not to run for the rest of the machine.
    package let top: Cgroup
    /// A cgroup for the guarded ones.
    package let cgroup: Cgroup
    /// A cgroup beside it.
    package let outside: Cgroup
    package let state: GuardState
    package let runFolder: String
    package let networkNamespace: OwnedDescriptor
    private let name: String
    private let sockets = Mutex<Set<Int32>>([])
    private let programs = Mutex<[RunningProgram]>([])

    private static let prefix = "tupleguard-test-"
    private static let next = Atomic<Int>(0)
    private static let removeAbandoned: Void = { Sandbox.removeLeftOvers() }()

    /// Runs a test in a sandbox of its own.
    ///
    /// - Parameter buckets: of its guard's table, a power of two; nil for as many as fit.
    package static func run(buckets: Int? = nil, _ body: (Sandbox) throws -> Void) throws {
        _ = removeAbandoned
        let sandbox = try Sandbox(buckets: buckets)
        defer { sandbox.remove() }
        try body(sandbox)
    }

    /// Runs a test in two of them, each in a network namespace of its own.
    package static func runTwo(_ body: (Sandbox, Sandbox) throws -> Void) throws {
        try run { first in try run { second in try body(first, second) } }
    }

    private init(buckets: Int?) throws {
        name = "\(Self.prefix)\(getpid())-\(Self.next.add(1, ordering: .relaxed).newValue)"
        hierarchy = try CgroupHierarchy()
        top = try Self.make(name, in: hierarchy)
        cgroup = try Self.make(name + "/inside", in: hierarchy)
        outside = try Self.make(name + "/outside", in: hierarchy)
        var state = GuardState(folder: "/sys/fs/bpf/\(name)", fewBuckets: buckets)
        state.outermost = top.folder
        self.state = state
        runFolder = "/run/\(name)"
        let raw = support_new_netns()
        guard raw >= 0 else { throw Errno(-raw) }
        networkNamespace = OwnedDescriptor(taking: raw)
        try ip("link", "set", "lo", "up")
    }

    private static func make(_ name: String, in hierarchy: CgroupHierarchy) throws -> Cgroup {
        let folder = hierarchy.mountPoint + "/" + name
        try Errno.check { mkdir(folder, 0o755) }
        return try Cgroup(folder, in: hierarchy)
    }

    /// A cgroup below the guarded one.
    package func makeChild(_ child: String) throws -> Cgroup {
        try Self.make("\(name)/inside/\(child)", in: hierarchy)
    }

    /// A cgroup beside the guarded one.
    package func makeSibling(_ sibling: String) throws -> Cgroup {
        try Self.make("\(name)/\(sibling)", in: hierarchy)
    }

    /// ip(8) inside the network namespace.
    package func ip(_ arguments: String...) throws {
        let result = try command("/sbin/ip", Array(arguments))
        if result.status != 0 {
            throw GuardError.failed(
                what: "ip \(arguments.joined(separator: " "))", errno: Errno(EINVAL),
                detail: result.errors)
        }
    }

    /// Sets a sysctl(8) of the network namespace, such as "net.ipv4.ip_local_port_range".
    package func sysctl(_ name: String, _ value: String) throws {
        let path = "/proc/sys/" + name.split(separator: ".").joined(separator: "/")
        let result = try command("/bin/sh", ["-c", "echo '\(value)' >\(path)"])
        if result.status != 0 {
            throw GuardError.failed(
                what: "set \(name) to \(value)", errno: Errno(EINVAL), detail: result.errors)
        }
    }

    /// Ends a program when this sandbox is removed, if it still runs.
    package func endWithSandbox(_ program: RunningProgram) {
        programs.withLock { $0.append(program) }
    }

    private func remove() {
        for program in programs.withLock({ $0 }) { program.end() }
        for socket in sockets.withLock({ $0 }) { Glibc.close(socket) }
        if access(state.folder, F_OK) == 0 { try? state.detachAll() }
        rmdir(state.folder)
        Cgroup.remove(top.folder)
        try? FileManager.default.removeItem(atPath: runFolder)
    }

    private static func removeLeftOvers() {
        func isAbandoned(_ name: String) -> Bool {
            guard name.hasPrefix(prefix),
                let pid = Int32(name.dropFirst(prefix.count).prefix { $0.isNumber })
            else { return false }
            return !isRunning(pid)
        }
        for name in names(in: "/sys/fs/bpf") where isAbandoned(name) {
            try? GuardState(folder: "/sys/fs/bpf/\(name)").detachAll()
            rmdir("/sys/fs/bpf/\(name)")
        }
        for name in names(in: "/run") where isAbandoned(name) {
            try? FileManager.default.removeItem(atPath: "/run/\(name)")
        }
        guard let mount = (try? CgroupHierarchy())?.mountPoint else { return }
        for name in names(in: mount) where isAbandoned(name) {
            Cgroup.remove("\(mount)/\(name)")
        }
    }

    // MARK: - Sockets

    package enum Kind: Sendable {
        case v4, v6, tcp4, tcp6

        var family: Int32 { self == .v6 || self == .tcp6 ? AF_INET6 : AF_INET }
        var type: Int32 {
            Int32(self == .tcp4 || self == .tcp6 ? SOCK_STREAM.rawValue : SOCK_DGRAM.rawValue)
        }
    }

    /// A socket of the guarded cgroup (or of `cgroup`), bound if a name is given, with
    /// SO_REUSEADDR set unless it is not to share its port.
    package func socket(
        _ kind: Kind = .v4, bound name: String? = nil, in cgroup: Cgroup? = nil,
        netns: Int32? = nil, sharing: Bool = true
    ) throws -> TestSocket {
        let procs = (cgroup ?? self.cgroup).folder + "/cgroup.procs"
        let raw = support_socket(procs, netns ?? networkNamespace.raw, kind.family, kind.type)
        guard raw >= 0 else { throw Errno(-raw) }
        sockets.withLock { _ = $0.insert(raw) }
        let socket = TestSocket(descriptor: raw, family: kind.family)
        if sharing { try socket.set(SOL_SOCKET, SO_REUSEADDR, 1) }
        if let name { try socket.bind(name) }
        return socket
    }

    /// Closes a socket before the test ends.
    package func close(_ socket: TestSocket) {
        sockets.withLock { _ = $0.remove(socket.descriptor) }
        // A child that has not called exec yet has it too, and it would live on.
        RunningProgram.starting.withLock { _ in socket.close() }
    }

    /// Runs `body` while no other program is started: a child that has not called exec yet has this
    /// process's sockets too, and may be taken for the one whose they are.
    package func whileNobodyStarts(_ body: () throws -> Void) rethrows {
        try RunningProgram.starting.withLock { _ in try body() }
    }

    // MARK: - The guard

    /// Whether all claims go, now that their sockets are closed.
    ///
    /// A child of another test that has not called exec yet has the sockets of this process too,
    /// and the kernel releases them with the last that has.
    package func hasNoClaimsLeft() throws -> Bool {
        try eventually { try claims().isEmpty }
    }

    package func attach(
        _ policy: Policy = Policy(), to cgroup: Cgroup? = nil, tableSize: Int = 1024
    ) throws {
        try state.attach(cgroup ?? self.cgroup, policy: policy, tableSize: tableSize)
    }

    package func counters() throws -> Counters { try state.counters(of: cgroup.id) }

    /// By which the guard tells this sandbox's network namespace from others: seeding finds other
    /// sandboxes' sockets too.
    package func namespaceCookie() throws -> UInt32 {
        let probe = try socket()
        defer { close(probe) }
        return UInt32(truncatingIfNeeded: probe.networkNamespaceCookie)
    }

    /// Claims of this sandbox's network namespace.
    package func claims() throws -> [Claim] {
        let namespace = try namespaceCookie()
        return try state.claims().filter { $0.networkNamespace == namespace }
    }

    // MARK: - Commands

    package struct Outcome: Sendable {
        package let status: Int32
        package let output: String
        package let errors: String
    }

    /// The programs that were built with these tests.
    package static func program(_ name: String) -> String {
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return URL(filePath: own).deletingLastPathComponent().appending(path: name).path()
    }

    /// What a command line begins with to have a /proc that shows everybody's processes, where the
    /// machine's does not (hidepid): what an unprivileged program is told is not to depend on that.
    private static let openProc: [String] = {
        let mounts = (try? String(contentsOfFile: "/proc/mounts", encoding: .utf8)) ?? ""
        let isHiding = mounts.split(separator: "\n").contains {
            $0.contains(" /proc proc ") && $0.contains("hidepid=")
        }
        let script = "mount -t proc -o hidepid=0 proc /proc && exec \"$@\""
        return isHiding ? ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh"] : []
    }()

    /// Starts a program inside the network namespace, and inside `cgroup` when one is given.
    package func start(
        _ program: String, _ arguments: [String], in cgroup: Cgroup? = nil,
        environment: [String: String] = [:], asNobody: Bool = false
    ) throws -> RunningProgram {
        var line = ["/usr/bin/nsenter", "--net=/proc/\(getpid())/fd/\(networkNamespace.raw)"]
        // In this order: sockets of all the namespaces where guarded processes are get claims, and
        // the one that we come from has those of other tests.
        if let cgroup {
            let join = "echo $$ >'\(cgroup.folder)/cgroup.procs'; exec \"$@\""
            line += ["/bin/sh", "-c", join, "sh"]
        }
        if asNobody {
            line += Self.openProc
            line += ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        }
        line += [program] + arguments
        var variables = ProcessInfo.processInfo.environment
        variables["TUPLEGUARD_STATE"] = state.folder
        variables["TUPLEGUARD_RUN"] = runFolder
        variables.merge(environment) { $1 }
        return try RunningProgram(line, environment: variables)
    }

    /// Runs a program to its end.
    package func command(
        _ program: String, _ arguments: [String], in cgroup: Cgroup? = nil,
        environment: [String: String] = [:], asNobody: Bool = false
    ) throws -> Outcome {
        try start(
            program, arguments, in: cgroup, environment: environment, asNobody: asNobody
        ).wait()
    }

    /// Runs `tupleguard` with this sandbox's state.
    package func tupleguard(
        _ arguments: String..., in cgroup: Cgroup? = nil, asNobody: Bool = false
    ) throws -> Outcome {
        try command(Self.program("tupleguard"), arguments, in: cgroup, asNobody: asNobody)
    }
}

/// A program that runs beside the test; its output is kept.
package final class RunningProgram: Sendable {
    private let process: Foundation.Process
    private let output: Collector
    private let errors: Collector

    /// Reads a pipe to its end on a thread of its own, so that the program never waits for us.
    private final class Collector: Sendable {
        let pipe = Pipe()
        private let text = Mutex("")
        private let ended = DispatchSemaphore(value: 0)

        func start() {
            let handle = pipe.fileHandleForReading
            Thread.detachNewThread {
                while true {
                    let data = handle.availableData
                    if data.isEmpty { break }
                    self.text.withLock { $0 += String(decoding: data, as: UTF8.self) }
                }
                self.ended.signal()
            }
        }

        var all: String {
            ended.wait()
            ended.signal()
            return text.withLock { $0 }
        }

        var sofar: String { text.withLock { $0 } }
    }

    /// Held while a child has this process's descriptors: from fork to exec.
    static let starting = Mutex<Void>(())

    package init(_ line: [String], environment: [String: String]) throws {
        process = Foundation.Process()
        process.executableURL = URL(filePath: line[0])
        process.arguments = Array(line.dropFirst())
        process.environment = environment
        output = Collector()
        errors = Collector()
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output.pipe
        process.standardError = errors.pipe
        try Self.starting.withLock { _ in try process.run() }
        output.start()
        errors.start()
    }

    package var pid: Int32 { process.processIdentifier }
    package var isRunning: Bool { process.isRunning }
    package var errorsSoFar: String { errors.sofar }
    package var outputSoFar: String { output.sofar }

    package func signal(_ number: Int32) {
        kill(pid, number)
    }

    /// Kills it, and waits for its end.
    package func end() {
        if isRunning { signal(SIGKILL) }
        _ = wait()
    }

    package func wait() -> Sandbox.Outcome {
        process.waitUntilExit()
        let status =
            process.terminationReason == .exit
            ? process.terminationStatus : 128 + process.terminationStatus
        return Sandbox.Outcome(status: status, output: output.all, errors: errors.all)
    }
}

/// How long to wait for what is to come about: five minutes, because a machine with few processors
/// has many programs of other tests to run. Where it is known not to come, scripts/faults says so.
private let patienceSeconds =
    ProcessInfo.processInfo.environment["TUPLEGUARD_TEST_PATIENCE"].flatMap { UInt64($0) } ?? 300

/// Waits for something that another process does; false when it has not come about in time.
package func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = KernelClock.monotonic + patienceSeconds * 1_000_000_000
    while try !condition() {
        if KernelClock.monotonic > deadline { return false }
        usleep(20_000)
    }
    return true
}
