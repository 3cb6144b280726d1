// SPDX-License-Identifier: Apache-2.0
// Many threads and tasks connect at once. What ThreadSanitizer has to see: run
// by scripts/sanitize, and as a test like any other. Needs no privilege.

import Connectx
import Foundation
import Glibc
import Synchronization
import Testing
import TupleguardSockets

@Suite(.serialized) struct ConnectxThreadTests {
    private static let threads = 8
    private static let perThread = 100

    /// What threads add to. With a lock that ThreadSanitizer knows: it sees no order in what
    /// Synchronization's Mutex guards, which sleeps by futex(2).
    private final class Collection<Element>: @unchecked Sendable {
        private var elements: [Element] = []
        private let lock = NSLock()

        func add(_ element: Element) { lock.withLock { elements.append(element) } }
        var all: [Element] { lock.withLock { elements } }
    }

    /// Connections that stay open until the test is over.
    private final class Held: Sendable {
        private let tuples = Collection<FourTuple>()
        private let descriptors = Collection<Int32>()

        func keep(_ connection: consuming Connectx.Connection) {
            tuples.add(connection.tuple)
            descriptors.add(fcntl(connection.descriptor.raw, F_DUPFD_CLOEXEC, 0))
        }

        var count: Int { tuples.all.count }
        var isDistinct: Bool { Set(tuples.all).count == count }

        deinit {
            for descriptor in descriptors.all { close(descriptor) }
        }
    }

    /// Runs `body` on several threads at once.
    private func concurrently(_ body: @escaping @Sendable (Int) -> Void) {
        DispatchQueue.concurrentPerform(iterations: Self.threads, execute: body)
    }

    @Test(arguments: ["127.0.0.1:9", "[::1]:9"])
    func portsAreFoundByManyThreads(_ destination: String) throws {
        let destination = try #require(Endpoint(destination))
        let held = Held()
        concurrently { _ in
            for _ in 0..<Self.perThread {
                guard let connection = try? Connectx.connectBlocking(.udp, to: destination) else {
                    continue
                }
                held.keep(connection)
            }
        }
        #expect(held.count == Self.threads * Self.perThread)
        #expect(held.isDistinct)
    }

    /// All go for the same few tuples: each has one winner, and the others are told.
    @Test func namedTuplesHaveOneWinner() throws {
        let destination = try #require(Endpoint("127.0.0.1:9"))
        let ports = (0..<20).map { UInt16(61_100 + $0) }
        let held = Held()
        let conflicts = Atomic(0)
        concurrently { _ in
            for port in ports {
                let source = Source(address: IPAddress(v4: 127, 0, 0, 1), port: port)
                do throws(ConnectError) {
                    let connection = try Connectx.connectBlocking(
                        .udp, to: destination, from: source)
                    held.keep(connection)
                } catch {
                    if error.reason == .conflict { conflicts.add(1, ordering: .relaxed) }
                }
            }
        }
        #expect(held.isDistinct)
        #expect(held.count <= ports.count)
        #expect(conflicts.load(ordering: .relaxed) == Self.threads * ports.count - held.count)
    }

    @Test func tcpAndErrorsAmongThem() throws {
        let nowhere = try #require(Endpoint("127.0.0.1:9"))
        let source = Source(address: IPAddress(v4: 127, 0, 0, 1))
        let refused = Atomic(0)
        concurrently { _ in
            for _ in 0..<Self.perThread {
                do throws(ConnectError) {
                    _ = try Connectx.connectBlocking(.tcp, to: nowhere, from: source)
                } catch {
                    if error.errno == ECONNREFUSED { refused.add(1, ordering: .relaxed) }
                }
            }
        }
        #expect(refused.load(ordering: .relaxed) == Self.threads * Self.perThread)
    }

    @Test func tasks() async throws {
        let destination = try #require(Endpoint("127.0.0.1:9"))
        let held = Held()
        await withTaskGroup { group in
            for number in 0..<Self.threads * 20 {
                group.addTask {
                    let transport: Transport = number % 4 == 0 ? .tcp : .udp
                    guard
                        let connection = try? await Connectx.connect(
                            transport, to: destination, from: .any)
                    else { return }
                    held.keep(connection)
                }
            }
        }
        // Nobody listens for TCP.
        #expect(held.count == Self.threads * 20 * 3 / 4)
        #expect(held.isDistinct)
    }
}
