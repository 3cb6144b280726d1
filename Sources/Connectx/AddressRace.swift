// SPDX-License-Identifier: Apache-2.0
// Several addresses of one host, tried as Happy Eyeballs does (RFC 8305): the next one when one
// fails or keeps us waiting, and whoever answers first has it.

import CTupleguardLinux
import ConnectxCore
import TupleguardSockets

/// Connections to the addresses of one host, of which one is wanted. (UDP has it at once: the first
/// to which there is a way.)
///
/// It does not wait itself: who runs it waits for `sockets`, until `waitUntil`, and tells it what
/// came of that.
struct AddressRace: ~Copyable {
    private struct Attempt {
        let opening: Opening
        let descriptor: Int32
        let outcome: Connectx.Outcome
    }

    private let transport: Transport
    private let plan: Opening
    private let configure: Connectx.Configuration?
    let deadline: ContinuousClock.Instant?
    /// Which are still to be tried, the first one first.
    private var addresses: ArraySlice<Endpoint>
    private var nextStart = ContinuousClock.Instant.now
    /// Those under way.
    private var attempts: [Attempt] = []
    private var failure: ConnectError?

    /// The least delay that the RFC allows.
    private static let shortestDelay = Duration.milliseconds(10)

    /// - Parameter plan: source and options; its destination tells in errors where it was going.
    init(
        _ transport: Transport, _ addresses: [Endpoint], _ plan: Opening,
        _ configure: Connectx.Configuration?
    ) {
        self.transport = transport
        self.addresses = inTurnByFamily(addresses)[...]
        self.plan = plan
        self.configure = configure
        deadline = plan.options.deadline
    }

    deinit {
        for attempt in attempts { close(attempt.descriptor) }
    }

    /// The sockets to wait for.
    var sockets: [Int32] { attempts.map(\.descriptor) }

    /// When to go on though none of them has said anything; nil: never.
    var waitUntil: ContinuousClock.Instant? {
        guard !addresses.isEmpty else { return deadline }
        return deadline.map { min($0, nextStart) } ?? nextStart
    }

    /// Tries the next addresses, as far as it is time for them.
    ///
    /// - Returns: a connection that there is already, or nil: it is to be waited for.
    /// - Throws: when all have failed, or the time is over.
    mutating func goOn() throws(ConnectError) -> Connectx.Connection? {
        if let deadline, deadline <= .now { throw plan.error(.timedOut, ETIMEDOUT) }
        while !addresses.isEmpty, attempts.isEmpty || nextStart <= .now {
            if let connection = start(addresses.removeFirst()) { return connection }
        }
        guard attempts.isEmpty else { return nil }
        throw failure ?? plan.error(.invalidArgument, EINVAL)
    }

    private mutating func start(_ address: Endpoint) -> Connectx.Connection? {
        let opening = Opening(destination: address, source: plan.source, options: plan.options)
        do throws(ConnectError) {
            let connection = try opening.open(
                transport, isNonBlocking: transport == .tcp || plan.options.isNonBlocking,
                .failsAtOnce, configure)
            guard connection.state == .inProgress else { return connection }
            let outcome = connection.outcome
            attempts.append(
                Attempt(
                    opening: opening, descriptor: connection.takeDescriptor(), outcome: outcome))
            nextStart = .now + max(plan.options.attemptDelay, Self.shortestDelay)
        } catch {
            fail(error)
        }
        return nil
    }

    /// What the wait came to: the connection, if one has come about.
    ///
    /// - Throws: `cancelled`.
    mutating func take(_ event: Wait.Event) throws(ConnectError) -> Connectx.Connection? {
        if event.error == ECANCELED { throw plan.error(.cancelled, ECANCELED) }
        guard let index = attempts.firstIndex(where: { $0.descriptor == event.socket }) else {
            return nil
        }
        let attempt = attempts.remove(at: index)
        var connection = Connectx.Connection(
            descriptor: OwnedDescriptor(taking: attempt.descriptor), outcome: attempt.outcome)
        do throws(ConnectError) {
            try attempt.opening.finish(&connection, event.error)
            return connection
        } catch {
            fail(error)
            return nil
        }
    }

    /// The next is tried at once. Of several errors that is told which comes from the other side,
    /// rather than that this host has no way there.
    private mutating func fail(_ error: ConnectError) {
        nextStart = .now
        let isOfThisHost = [
            .noRoute, .familyMismatch, .sourceNotLocal, .invalidArgument, .notPermitted,
        ].contains(error.reason)
        if failure == nil || !isOfThisHost { failure = error }
    }
}

/// The family of the first address, then the other, and so on in turn (RFC 8305, section 4).
func inTurnByFamily(_ addresses: [Endpoint]) -> [Endpoint] {
    guard let first = addresses.first else { return [] }
    var own = addresses.filter { $0.address.isIPv4 == first.address.isIPv4 }[...]
    var other = addresses.filter { $0.address.isIPv4 != first.address.isIPv4 }[...]
    var sorted: [Endpoint] = []
    while !own.isEmpty || !other.isEmpty {
        if let address = own.popFirst() { sorted.append(address) }
        if let address = other.popFirst() { sorted.append(address) }
    }
    return sorted
}
