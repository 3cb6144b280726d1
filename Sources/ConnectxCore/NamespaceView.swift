// SPDX-License-Identifier: Apache-2.0
// What is kept between calls for a network namespace: netlink sockets, barriers, routes, the port
// range, ports lately seen free, whether a guard is there. All of it can be lost.

import CConnectx
import CTupleguardLinux
import TupleguardSocketDiag
import TupleguardSockets

/// A network namespace as one call at a time sees it.
///
/// Views wait in a pool of the process. One is taken out for a call and put back after it, so it
/// has one user at a time and needs no lock; a process has as many as calls ran at once, and keeps
/// at most eight. After a fork the child finds its parent's views, knows them by the
/// process's number, and drops them.
///
/// A program may close descriptors that are not its own (closefrom(3)), and get their numbers for
/// files of its own. So each kept descriptor knows which file it is, and a view with one that has
/// become another is dropped without touching that.
struct NamespaceView: ~Copyable {
    let namespace: NamespaceIdentity
    private let process: UInt64
    /// Nil where netlink is refused.
    var diag: SocketDiag?
    private var route: NetlinkSocket?
    private var sources = RecentSources()
    var barriers = Barriers()
    var ports = PortSpace()
    var free = FreePorts()
    var coverage = GuardCoverage()
    var random = RandomSource()
    var notices = NoticeSender()
    /// How many more candidates are tried with a throw-away socket first; see `attempt`.
    var scouting = 0
    /// How long the last listing took.
    var listingNanoseconds: UInt64 = 0
    /// Whether listings for IPv4 ask for sockets with v4-mapped addresses too; see `chooseListed`.
    var listsMapped = false
    /// Whether IP_LOCAL_PORT_RANGE is there (Linux 6.3, and 6.1 of Debian).
    var canLend = true
    private var buffer: UnsafeMutableRawBufferPointer?

    /// Of the calling thread's namespace, which has to be `namespace`.
    private init(_ namespace: NamespaceIdentity, process: UInt64) throws(Errno) {
        self.namespace = namespace
        self.process = process
        do throws(Errno) {
            let diag = try SocketDiag()
            guard diag.namespace == namespace else { throw Errno(EXDEV) }
            self.diag = consume diag
        } catch {
            guard error.number != EXDEV, error.number != EMFILE, error.number != ENFILE,
                error.number != ENOMEM, error.number != ENOBUFS
            else { throw error }
            self.diag = nil
        }
    }

    deinit {
        buffer?.deallocate()
    }

    // MARK: - The pool

    /// Runs `body` with a view of the namespace.
    ///
    /// - Throws: `elsewhere` when the calling thread is in another namespace and no view is left of
    ///   an earlier call; EMFILE, ENFILE, ENOMEM, ENOBUFS.
    static func with<Result>(
        _ namespace: NamespaceIdentity,
        _ body: (inout NamespaceView) throws(ViewError) -> Result
    ) throws(ViewError) -> Result {
        let view = try take(namespace)
        defer { put(view) }
        return try body(&view.pointee)
    }

    private static func take(_ namespace: NamespaceIdentity) throws(ViewError)
        -> UnsafeMutablePointer<NamespaceView>
    {
        let process = connectx_process()
        for place in 0..<UInt32(CONNECTX_POOL_SIZE) {
            guard let view = exchange(place, nil) else { continue }
            if view.pointee.process != process {
                discard(view)
            } else if view.pointee.namespace == namespace {
                if view.pointee.isIntact { return view }
                discard(view)
            } else if let displaced = exchange(place, view) {
                put(displaced)
            }
        }
        do throws(Errno) {
            let view = try NamespaceView(namespace, process: process)
            let pointer = UnsafeMutablePointer<NamespaceView>.allocate(capacity: 1)
            pointer.initialize(to: view)
            return pointer
        } catch {
            throw error.number == EXDEV ? .elsewhere : .unavailable(error)
        }
    }

    private static func put(_ view: UnsafeMutablePointer<NamespaceView>) {
        var view = view
        for place in 0..<UInt32(CONNECTX_POOL_SIZE) {
            guard let displaced = exchange(place, view) else { return }
            view = displaced
        }
        discard(view)
    }

    private static func discard(_ view: UnsafeMutablePointer<NamespaceView>) {
        view.deinitialize(count: 1)
        view.deallocate()
    }

    private static func exchange(_ place: UInt32, _ view: UnsafeMutablePointer<NamespaceView>?)
        -> UnsafeMutablePointer<NamespaceView>?
    {
        connectx_pool_exchange(place, view)?.assumingMemoryBound(to: NamespaceView.self)
    }

    /// Whether the descriptors that the next call uses are still ours. (Those for routes and
    /// barriers are looked at when they are wanted.)
    private var isIntact: Bool {
        switch diag {
        case .some(let diag): guard diag.isIntact else { return false }
        case nil: break
        }
        return ports.isIntact(now: coarseTime())
    }

    // MARK: - What it knows

    /// The source that the routing table gave for this lately; nil when it was not asked.
    func recentSource(for question: RouteQuestion) -> IPAddress? {
        sources.find(question, now: monotonicTime())
    }

    /// The source address by route; nil when the answer names none. The netlink socket for it is
    /// made when it is first wanted.
    mutating func askForSource(_ question: RouteQuestion) throws(Errno) -> IPAddress? {
        let isKept =
            switch route {
            case .some(let route): route.isIntact
            case nil: false
            }
        if !isKept {
            let socket = try NetlinkSocket(.route)
            guard try NamespaceIdentity.ofNewSocket(socket.raw) == namespace else {
                throw Errno(EXDEV)
            }
            route = consume socket
        }
        // Before it is asked: what changes meanwhile counts as not seen.
        let now = monotonicTime()
        let source = try route!.sourceAddress(for: question)
        if let source { sources.keep(source, for: question, now: now) }
        return source
    }

    /// 32 KB for the replies of a listing, made when they are first wanted.
    mutating func replyBuffer() -> UnsafeMutableRawBufferPointer {
        if let buffer { return buffer }
        let made = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 * 1024, alignment: 8)
        buffer = made
        return made
    }
}

/// Why there was no view, or what its user threw.
enum ViewError: Error {
    /// The thread is not in the network namespace.
    case elsewhere
    case unavailable(Errno)
    case connect(ConnectError)
}

/// Monotonic time in nanoseconds, to the tick (1 to 10 ms): read without entering the kernel.
func coarseTime() -> UInt64 { time(of: CLOCK_MONOTONIC_COARSE) }

/// Monotonic time in nanoseconds, also without entering the kernel.
func monotonicTime() -> UInt64 { time(of: CLOCK_MONOTONIC) }

private func time(of clock: clockid_t) -> UInt64 {
    var now = timespec()
    clock_gettime(clock, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Numbers that nobody can guess: a source port is also what a forged answer has to get right.
struct RandomSource: ~Copyable {
    private var pool: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    private var left = 0

    /// Below `bound`, evenly but for one part in 2^32.
    ///
    /// - Throws: the error of a system that has none to give.
    mutating func next(below bound: UInt32) throws(Errno) -> UInt32 {
        UInt32((UInt64(try next()) * UInt64(bound)) >> 32)
    }

    private mutating func next() throws(Errno) -> UInt32 {
        if left == 0 {
            let result = withUnsafeMutableBytes(of: &pool) {
                linux_random($0.baseAddress, $0.count)
            }
            guard result == 0 else { throw .last }
            left = 8
        }
        left -= 1
        return withUnsafeBytes(of: &pool) {
            $0.load(fromByteOffset: left * 4, as: UInt32.self)
        }
    }
}
