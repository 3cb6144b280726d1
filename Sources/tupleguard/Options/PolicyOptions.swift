// SPDX-License-Identifier: Apache-2.0
// Options of the commands that attach a guard.

import ArgumentParser
import TupleguardKernel

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
