// SPDX-License-Identifier: Apache-2.0
// Options of the commands that attach a guard.

import ArgumentParser
import TupleguardKernel

/// How a cgroup is to be guarded. What is left open is for the configuration file to say, or has
/// the value that a `Policy` begins with.
struct PolicyOptions: ParsableArguments {
    @Option(
        help: """
            enforce: refuse conflicts; observe: count and report them, let them through. \
            (default: enforce)
            """)
    var mode: Policy.Mode?

    @Option(
        name: .customLong("errno"),
        help: """
            What a refused connect() fails with: EPERM, EADDRNOTAVAIL or EADDRINUSE. \
            (default: EPERM)
            """)
    var refusal: Policy.Refusal?

    @Option(
        help: """
            What to do with connects that the full claim table has no room for. (default: allow)
            """)
    var whenFull: Policy.WhenFull?

    @Option(
        help: """
            Sockets outside of all guarded cgroups. observe: their tuples are refused to guarded \
            sockets, and nothing changes for them; refuse: they are also refused a tuple that a \
            guarded socket holds; ignore: nobody looks at them. (default: observe; with --strict: \
            refuse)
            """)
    var outsiders: Policy.Outsiders?

    @Option(
        help: """
            Look up each new tuple among the sockets outside the cgroup too, at a cost that grows \
            with the sockets on one source address and port. auto: only where nothing can be \
            attached to the root cgroup. (default: auto)
            """)
    var lookUp: Policy.LookUp?

    @Option(
        help: """
            For which sockets that connect() without a port the guard chooses one that is free for \
            that destination. reuseaddr: those that have set SO_REUSEADDR or SO_REUSEPORT. \
            (default: reuseaddr)
            """)
    var discover: Policy.Discover?

    @Option(
        help: """
            What connect() fails with when every local port is taken for the destination: \
            EADDRNOTAVAIL, or EAGAIN, which the kernel gives for want of a port. Not for programs \
            on Python's asyncio or other loops that take EAGAIN to mean that the connect goes on: \
            they believe that they are connected. (default: EADDRNOTAVAIL)
            """)
    var whenExhausted: Policy.WhenExhausted?

    @Option(
        help: ArgumentHelp(
            """
            Ports of its own: from these alone outgoing connections take their source ports, TCP \
            and UDP, and no other guarded cgroup is given them. What a program binds itself to \
            stays its business. any: what the kernel chooses from, and TCP is left alone. \
            (default: any)
            """, valueName: "low-high"),
        transform: PortChoice.init)
    var ports: PortChoice?

    @Option(
        help: ArgumentHelp(
            """
            Connections that the cgroup and those below it may have open at one time, TCP and UDP; \
            one more fails as --when-exhausted says. Sockets count that connect() while the guard \
            is attached, not those that a server accepts. 0: any number. (default: 0)
            """, valueName: "number"))
    var maxConnections: Int?

    @Option(
        help: """
            Claims that the table has room for (default \(Policy.defaultTableSize)); shared by all \
            guarded cgroups and fixed by the first attach.
            """)
    var tableSize: Int?

    @Flag(
        inversion: .prefixedNo,
        help: """
            Take nothing on trust: choose, lock and claim the port of every socket that has none, \
            whatever --discover says (one of its own for a socket that does not share), refuse a \
            port that another thread could still change, and refuse where the table is full. \
            (default: --no-strict)
            """)
    var strict: Bool?

    var policy: Policy {
        var policy = Policy()
        policy.mode = mode ?? policy.mode
        policy.refusal = refusal ?? policy.refusal
        policy.isStrict = strict ?? policy.isStrict
        policy.whenFull = policy.isStrict ? .refuse : whenFull ?? policy.whenFull
        policy.outsiders = outsiders ?? (policy.isStrict ? .refuse : policy.outsiders)
        policy.lookUp = lookUp ?? policy.lookUp
        policy.discover = discover ?? policy.discover
        policy.whenExhausted = whenExhausted ?? policy.whenExhausted
        policy.ports = ports?.range
        policy.maxConnections = maxConnections == 0 ? nil : maxConnections
        return policy
    }

    /// These, and from `others` what they leave open.
    func completed(by others: Self) throws -> Self {
        var all = self
        all.mode = mode ?? others.mode
        all.refusal = refusal ?? others.refusal
        all.whenFull = whenFull ?? others.whenFull
        all.outsiders = outsiders ?? others.outsiders
        all.lookUp = lookUp ?? others.lookUp
        all.discover = discover ?? others.discover
        all.whenExhausted = whenExhausted ?? others.whenExhausted
        all.ports = ports ?? others.ports
        all.maxConnections = maxConnections ?? others.maxConnections
        all.tableSize = tableSize ?? others.tableSize
        all.strict = strict ?? others.strict
        try all.validate()
        return all
    }

    /// Whether any of them is.
    var isGiven: Bool {
        mode != nil || refusal != nil || whenFull != nil || outsiders != nil || lookUp != nil
            || discover != nil || whenExhausted != nil || tableSize != nil || strict != nil
            || ports != nil || maxConnections != nil
    }

    func validate() throws {
        if strict == true && mode == .observe {
            throw ValidationError("--strict refuses, --mode observe does not: choose one of them")
        }
        if ports?.range != nil && mode == .observe {
            throw ValidationError(
                "--ports chooses ports, --mode observe changes nothing: choose one of them")
        }
        if let tableSize, !GuardError.tableSizes.contains(tableSize) {
            throw ValidationError(GuardError.tableSize(tableSize).description)
        }
        if let maxConnections, maxConnections != 0,
            !ConnectionBudget.limits.contains(maxConnections)
        {
            throw ValidationError(
                "--max-connections \(maxConnections): choose between 1 and \(ConnectionBudget.limits.upperBound), or 0 for any number"
            )
        }
    }
}

/// The ports that a cgroup gets: its own, or any.
struct PortChoice: Equatable {
    /// Nil for any.
    let range: ClosedRange<UInt16>?

    /// "20000-29999", or "any"
    init(_ text: String) throws {
        if text == "any" {
            range = nil
            return
        }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { end in
            end.allSatisfy(\.isNumber) ? UInt16(end) : nil
        }
        guard ends.count == 2, let low = ends[0], let high = ends[1], low > 0 else {
            throw ValidationError(
                "write two ports between 1 and 65535 as LOW-HIGH, such as 20000-29999, or any")
        }
        guard low <= high else {
            throw ValidationError("the lower port comes first, as in \(high)-\(low)")
        }
        range = low...high
    }
}

extension Policy.Mode: ExpressibleByArgument {}
extension Policy.WhenFull: ExpressibleByArgument {}
extension Policy.Outsiders: ExpressibleByArgument {}
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
