// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Connectx
import Glibc
import TupleguardKernel
import TupleguardLinux
import TupleguardRecords
import TupleguardSockets

/// `tupleguard connect`
struct Connect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Connect like netcat, through the library connectx.",
        discussion: """
            Copies standard input to the connection and back. With UDP each piece that is read \
            becomes a datagram, and when the input ends answers are awaited for a second of silence. \
            With TCP the end of the input closes the connection for writing only, and it ends when \
            the other side has closed it too.

            SOURCE is an address, ADDRESS:PORT or *:PORT; what is left out is chosen. DESTINATION \
            is ADDRESS:PORT or NAME:PORT; several are given with commas, or as a range of \
            addresses (127.0.0.1-127.0.0.254:80), and are taken in turn. Of a NAME's addresses the \
            next is tried when one refuses or does not answer. Needs no privilege.

            EXAMPLES
              echo hello | tupleguard connect udp 127.0.0.1:7
              tupleguard connect tcp 192.0.2.1:4000 198.51.100.7:80 --show
              tupleguard connect udp 127.0.0.1:7 --count 100000 --hold 10
            """)

    enum Kind: String, CaseIterable, ExpressibleByArgument {
        case tcp
        case udp

        var transport: Transport { self == .tcp ? .tcp : .udp }
    }

    @Argument(help: "tcp or udp.")
    var kind: Kind

    @Argument(help: ArgumentHelp("[SOURCE] DESTINATION", valueName: "endpoint"))
    var endpoints: [String]

    @Flag(name: .customShort("z"), help: "Only connect: send nothing, and end.")
    var onlyConnect = false

    @Option(
        help: ArgumentHelp(
            "End when nothing was sent or received for so long.", valueName: "seconds"))
    var idleTimeout: Double?

    @Flag(help: "Say (on standard error) which 4-tuple it became, and by which technique.")
    var show = false

    @Option(help: "Open so many connections, and say how far it got.")
    var count: Int?

    @Option(
        help: ArgumentHelp("With --count: hold the connections so long.", valueName: "seconds"))
    var hold: Double?

    @Option(help: ArgumentHelp("Bind to this network interface.", valueName: "name"))
    var interface: String?

    @Option(help: ArgumentHelp("Give up a TCP connect after so long.", valueName: "seconds"))
    var timeout: Double?

    @Flag(help: "TCP from an address: the older way, with up to 8 sockets (bind to port 0).")
    var retry = false

    @Flag(help: "TCP: send the first input with the SYN (Fast Open); it may arrive twice.")
    var fastOpen = false

    @Flag(help: "JSON instead of text: of --show and --count.")
    var json = false

    func validate() throws {
        guard (1...2).contains(endpoints.count) else {
            throw ValidationError("give a DESTINATION, or a SOURCE and a DESTINATION")
        }
        if let count, !(1...10_000_000).contains(count) {
            throw ValidationError("--count \(count): choose between 1 and 10000000")
        }
        if hold != nil && count == nil { throw ValidationError("--hold goes with --count") }
        if let hold, !(0...86_400).contains(hold) {
            throw ValidationError("--hold \(hold): choose between 0 and 86400 seconds")
        }
        if let timeout, !(0.001...3600).contains(timeout) {
            throw ValidationError("--timeout \(timeout): choose between 0.001 and 3600 seconds")
        }
        if let idleTimeout, !(0.001...86_400).contains(idleTimeout) {
            throw ValidationError(
                "--idle-timeout \(idleTimeout): choose between 0.001 and 86400 seconds")
        }
        if onlyConnect && (count != nil || fastOpen || idleTimeout != nil) {
            throw ValidationError("-z goes with none of --count, --fast-open and --idle-timeout")
        }
        if kind == .udp && (timeout != nil || retry || fastOpen) {
            throw ValidationError("--timeout, --retry and --fast-open are for tcp")
        }
        if fastOpen && count != nil { throw ValidationError("--fast-open has no --count") }
        _ = try source()
    }

    // MARK: - Arguments

    private func source() throws -> Source {
        var source = Source.any
        if endpoints.count == 2 {
            guard let given = Source(endpoints[0]) else {
                throw ValidationError(
                    "SOURCE \(endpoints[0]): give ADDRESS, ADDRESS:PORT or *:PORT")
            }
            source = given
        }
        if let interface {
            guard let index = interfaceIndex(interface) else {
                throw ValidationError("--interface \(interface): there is none of that name")
            }
            source.interface = index
        }
        return source
    }

    /// Where to: destinations that are taken in turn, or the addresses of one host.
    private enum Target {
        case destinations(Connectx.Destinations)
        case host([Endpoint])
    }

    private func target() throws -> Target {
        let text = endpoints.last!
        if let destinations = Connectx.Destinations(text) { return .destinations(destinations) }
        guard let colon = text.lastIndex(of: ":") else {
            throw ValidationError("DESTINATION \(text): give ADDRESS:PORT or NAME:PORT")
        }
        let name = String(text[..<colon])
        guard let port = UInt16(text[text.index(after: colon)...]), port > 0, !name.isEmpty else {
            throw ValidationError("DESTINATION \(text): give a port between 1 and 65535")
        }
        return .host(try Connectx.addresses(of: name, port: port))
    }

    private var options: Connectx.Options {
        var options = Connectx.Options()
        options.timeout = timeout.map { .milliseconds($0 * 1000) }
        if retry { options.strategy = .bindRetry }
        return options
    }

    // MARK: - Running

    func run() throws {
        let target = try target()
        let source = try source()
        if count != nil { return try openMany(target, source) }
        var options = options
        if fastOpen {
            let first = readInput()
            guard !first.isEmpty else { throw ValidationError("--fast-open: there is no input") }
            options.firstData = .fastOpen(first)
        }
        let connection = try connect(target, source, options)
        if show { note(connection.outcome) }
        if onlyConnect { return }
        var first: [UInt8] = []
        if case .fastOpen(let bytes) = options.firstData {
            first = Array(bytes[connection.outcome.sent...])
        }
        try connection.withDescriptor { socket in
            let relay = Relay(
                socket: socket, isStream: kind == .tcp,
                idleMilliseconds: idleTimeout.map { Int32($0 * 1000) } ?? -1)
            try relay.run(first: first)
        }
    }

    private func connect(_ target: Target, _ source: Source, _ options: Connectx.Options)
        throws(ConnectError) -> Connectx.Connection
    {
        switch target {
        case .destinations(let destinations):
            try Connectx.connectBlocking(
                kind.transport, toAnyOf: destinations, from: source, options: options)
        case .host(let addresses):
            try Connectx.connectBlocking(
                kind.transport, toFastestOf: addresses, from: source, options: options)
        }
    }

    private func note(_ result: Connectx.Outcome) {
        struct Report: Encodable {
            let local: String
            let remote: String
            let technique: String
        }
        let report = Report(
            local: result.tuple.local.description, remote: result.tuple.remote.description,
            technique: result.technique.name)
        Terminal.note(json ? encodeJSON(report) : "\(result.tuple) (\(result.technique))")
    }

    private func readInput() -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 16_384)
        let count = read(STDIN_FILENO, &buffer, buffer.count)
        return Array(buffer[..<max(0, count)])
    }

    // MARK: - Many

    private struct Tally: Encodable {
        let asked: Int
        var opened = 0
        var techniques: [String: Int] = [:]
        var localPorts = 0
        var seconds = 0.0
        /// Why it went no further; absent when all were opened.
        var error: String?
        var errno: String?
        var message: String?
    }

    private func openMany(_ target: Target, _ source: Source) throws {
        raiseDescriptorLimit()
        var tally = Tally(asked: count!)
        var held = HeldDescriptors()
        var ports: Set<UInt16> = []
        let start = ContinuousClock.now
        do throws(ConnectError) {
            while tally.opened < tally.asked {
                let connection = try connect(target, source, options)
                tally.techniques[connection.technique.name, default: 0] += 1
                ports.insert(connection.tuple.local.port)
                held.keep(connection.takeDescriptor())
                tally.opened += 1
            }
        } catch {
            tally.error = error.reason.name
            tally.errno = Errno(error.errno).name
            tally.message = error.description
        }
        tally.seconds = (ContinuousClock.now - start) / .seconds(1)
        tally.localPorts = ports.count
        show(tally)
        fflush(nil)
        if let hold { sleep(seconds: hold) }
        if tally.opened < tally.asked { throw ExitCode(1) }
    }

    private func show(_ tally: Tally) {
        if json { return print(encodeJSON(tally)) }
        let techniques = tally.techniques.sorted { $0.key < $1.key }
            .map { "\(grouped($0.value)) by \($0.key)" }.joined(separator: ", ")
        let rate = tally.seconds > 0 ? Int(Double(tally.opened) / tally.seconds) : 0
        print(
            "opened \(amount(tally.opened, "connection")) of \(grouped(tally.asked)) from \(amount(tally.localPorts, "local port")), \(grouped(rate)) a second"
        )
        if !techniques.isEmpty { print("  \(techniques)") }
        if let message = tally.message { print("  then: \(message)") }
    }
}

/// Descriptors that stay open until this goes.
private struct HeldDescriptors: ~Copyable {
    private var all: [Int32] = []

    mutating func keep(_ descriptor: Int32) { all.append(descriptor) }

    deinit {
        for descriptor in all { close(descriptor) }
    }
}
