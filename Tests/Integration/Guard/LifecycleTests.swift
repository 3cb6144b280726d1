// SPDX-License-Identifier: Apache-2.0
// The life of a claim: reconnects, failures, closing, and who takes over from whom.

import CTupleguardTestSupport
import Glibc
import Testing
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct Lifecycle {
        /// A policy under which idle claims can be taken over at once.
        static var impatient: Policy {
            var policy = Policy()
            policy.graceNanoseconds = 0
            return policy
        }

        @Test func everyCopyOfASocketMustBeClosed() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                let copy = dup(a.descriptor)
                sandbox.close(a)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                close(copy)
                #expect(b.connect("127.0.0.1:6000") == nil)
                #expect(try sandbox.counters()[.released] == 1)
            }
        }

        /// As bpftool shows them, so that one can be told from another version's.
        @Test func eachProgramHasATagOfSixteenDigits() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let programs = try #require(try sandbox.state.attachments().first).programs
                #expect(programs.count == Hook.needed(by: Policy()).count)
                for program in programs {
                    #expect(program.tag.contains(/^[0-9a-f]{16}$/), "\(program)")
                }
            }
        }

        @Test func aSocketInFlightKeepsItsClaim() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let ends = try connectedUnixSockets()
                defer { close(ends[1]) }
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(support_send_descriptor(ends[0], a.descriptor) == 0)
                sandbox.close(a)
                close(ends[0])
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                let received = support_receive_descriptor(ends[1])
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                close(received)
                #expect(b.connect("127.0.0.1:6000") == nil)
            }
        }

        /// It holds its old tuple until its connect is over, and gives it up at the next.
        @Test func whatASocketHasLeftIsFreeAtItsNextConnect() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                for port in 6000...6002 { #expect(a.connect("127.0.0.1:\(port)") == nil) }
                #expect(try sandbox.counters()[.pruned] == 1)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(b.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6002") == "EPERM")
            }
        }

        @Test func aReconnectMovesTheClaim() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(Self.impatient)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(a.connect("127.0.0.1:6001") == nil)
                #expect(b.connect("127.0.0.1:6001") == "EPERM")
                #expect(b.connect("127.0.0.1:6000") == nil)
                #expect(a.connect("127.0.0.1:6000") == "EPERM")
                #expect(a.remote?.port == 6001)  // and stays where it was
                #expect(try sandbox.claims().count == 2)
            }
        }

        /// Also where it has a further claim of a group, and another the first.
        @Test func aReconnectToASharedPlaceMovesTheClaim() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(Self.impatient)
                let other = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(other.connect("127.0.0.9:6001") == nil)
                let a = try sandbox.socket(bound: "127.0.0.2:5000")
                let b = try sandbox.socket(bound: "127.0.0.2:5000")
                #expect(a.connect("127.0.0.9:6000") == nil)
                #expect(a.connect("127.0.0.9:6001") == nil)
                #expect(b.connect("127.0.0.9:6001") == "EPERM")
                #expect(b.connect("127.0.0.9:6000") == nil)
            }
        }

        @Test func aFailedConnectKeepsTheOldPeerAndItsClaim() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(Self.impatient)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                let unroutable = a.connect("192.0.2.1:6000")
                #expect(unroutable == "EINVAL" || unroutable == "ENETUNREACH")
                #expect(a.remote?.port == 6000)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                sandbox.close(a)
                #expect(b.connect("127.0.0.1:6000") == nil)
                sandbox.close(b)
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }

        @Test func aDisconnectedSocketMakesWay() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach(Self.impatient)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                try a.disconnect()
                #expect(b.connect("127.0.0.1:6000") == nil)
                #expect(a.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.takenOver] == 1)
            }
        }

        @Test func anIdleClaimIsRespectedForAMoment() throws {
            try Sandbox.run { sandbox in
                var patient = Policy()
                patient.graceNanoseconds = 3_600_000_000_000
                try sandbox.attach(patient)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                try a.disconnect()
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.counters()[.refusedInFlight] == 1)
                #expect(a.connect("127.0.0.1:6000") == nil)
            }
        }

        @Test func aSocketMayConnectAgainAndAgain() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                for round in 0..<50 {
                    #expect(a.connect("127.0.0.1:\(6000 + round % 5)") == nil)
                    if round % 7 == 0 { try a.disconnect() }
                }
                sandbox.close(a)
                #expect(try sandbox.hasNoClaimsLeft())
                #expect(try sandbox.counters().refused == 0)
            }
        }

        /// It stays one claim, with or without an address, and one place of the few in its record.
        @Test(arguments: ["127.0.0.1", "0.0.0.0"])
        func aSocketMayComeToOnePlaceAgainAndAgain(_ address: String) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let a = try sandbox.socket(bound: "\(address):5000")
                for _ in 0..<10 { #expect(a.connect("127.0.0.1:6000") == nil) }
                #expect(try sandbox.counters()[.claimed] == 1)
                #expect(try sandbox.counters()[.reclaimed] == 9)
                sandbox.close(a)
                #expect(try sandbox.hasNoClaimsLeft())
                #expect(try sandbox.counters()[.released] == 1)
            }
        }

        /// A further claim of a group is remembered by its tuple, here beside one that is not.
        @Test func whatASocketClaimedFurtherGoesWithIt() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let first = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(first.connect("127.0.0.9:6000") == nil)
                let second = try sandbox.socket(bound: "127.0.0.2:5000")
                #expect(second.connect("127.0.0.9:6001") == nil)
                #expect(second.connect("127.0.0.9:6000") == nil)
                #expect(try sandbox.claims().count == 3)
                sandbox.close(second)
                #expect(try eventually { try sandbox.claims().count == 1 })
            }
        }

        /// And goes also where the socket moves on, so that there is room for the next.
        @Test func furtherClaimsComeAndGo() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                for port in 6000...6002 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(socket.connect("127.0.0.9:\(port)") == nil)
                }
                let mover = try sandbox.socket(bound: "127.0.0.2:5000")
                for round in 0..<12 {
                    #expect(mover.connect("127.0.0.9:\(6000 + round % 3)") == nil)
                }
                #expect(try sandbox.counters()[.allowedTableFull] == 0)
                sandbox.close(mover)
                #expect(try eventually { try sandbox.claims().count == 3 })
            }
        }

        @Test func socketsFromBeforeTheAttachAreGuarded() throws {
            try Sandbox.run { sandbox in
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let wildcard = try sandbox.socket(.v6, bound: "[::]:5001")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(wildcard.connect("[::1]:6000") == nil)
                var policy = Policy()
                policy.lookUp = .off
                try sandbox.attach(policy)
                try sandbox.whileNobodyStarts { _ = try sandbox.state.seed() }
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                let c = try sandbox.socket(.v6, bound: "[::1]:5001")
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(c.connect("[::1]:6000") == "EPERM")
                let namespace = try sandbox.namespaceCookie()
                let holder = try sandbox.state.conflicts().first {
                    $0.last.networkNamespace == namespace && $0.last.tuple.local.port == 5000
                }?.last.holder
                #expect(holder?.pid == getpid())
                #expect(holder?.cgroupId == sandbox.cgroup.id)
                sandbox.close(a)
                #expect(b.connect("127.0.0.1:6000") == nil)
            }
        }

        @Test func aSocketIsCountedOnceHoweverManyDescriptorsItHas() throws {
            try Sandbox.run { sandbox in
                let sockets = try (5000..<5003).map { port in
                    try sandbox.socket(bound: "127.0.0.1:\(port)")
                }
                for socket in sockets { #expect(socket.connect("127.0.0.1:6000") == nil) }
                let copies = (0..<5).map { _ in dup(sockets[0].descriptor) }
                defer { for copy in copies { close(copy) } }
                try sandbox.attach()
                let first = try sandbox.state.seed()
                #expect(first.claimed == 3)
                #expect(first.known == 0)
                let second = try sandbox.state.seed()
                #expect(second.claimed == 0)
                #expect(second.known == 3)
            }
        }

        @Test func pairsThatExistAlreadyAreReported() throws {
            try Sandbox.run { sandbox in
                for _ in 0..<2 {
                    let socket = try sandbox.socket(bound: "127.0.0.1:5000")
                    #expect(socket.connect("127.0.0.1:6000") == nil)
                }
                try sandbox.attach()
                for _ in 0..<3 { try sandbox.state.seed() }
                let namespace = try sandbox.namespaceCookie()
                let found = try sandbox.state.conflicts().filter {
                    $0.last.networkNamespace == namespace
                }
                #expect(found.map(\.last.reason) == [.existing])
                #expect(found.map(\.count) == [1])
            }
        }

        @Test func theSweepDropsClaimsOfOutsidersThatAreGone() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.outsiders = .ignore
                try sandbox.attach(policy)
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                try sandbox.state.seed()
                #expect(try sandbox.claims().count == 1)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                sandbox.close(outsider)  // no hook runs
                #expect(try sandbox.claims().count == 1)
                #expect(
                    try eventually { () throws in
                        try sandbox.state.sweep()
                        return try sandbox.claims().isEmpty
                    })
                #expect(b.connect("127.0.0.1:6000") == nil)
            }
        }

        @Test func aClaimOfASocketThatIsGoneIsTakenOverAtOnce() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                #expect(outsider.connect("127.0.0.1:6000") == nil)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                try sandbox.state.seed()
                sandbox.close(outsider)
                // Sockets are freed after an RCU grace period.
                #expect(eventually { b.connect("127.0.0.1:6000") == nil })
            }
        }

        @Test func outsidersAreLookedUpWhenAskedFor() throws {
            for (lookUp, expected) in [(Policy.LookUp.on, "EPERM"), (.auto, nil), (.off, nil)] {
                try Sandbox.run { sandbox in
                    var policy = Policy()
                    policy.outsiders = .ignore
                    policy.lookUp = lookUp
                    try sandbox.attach(policy)
                    let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                    let outsider6 = try sandbox.socket(
                        .v6, bound: "[::1]:5000", in: sandbox.outside)
                    #expect(outsider.connect("127.0.0.1:6000") == nil)
                    #expect(outsider6.connect("[::1]:6000") == nil)
                    let a = try sandbox.socket(bound: "127.0.0.1:5000")
                    let b = try sandbox.socket(.v6, bound: "[::1]:5000")
                    #expect(a.connect("127.0.0.1:6000") == expected)
                    #expect(b.connect("[::1]:6000") == expected)
                    if expected != nil {
                        #expect(try sandbox.counters()[.refusedOutside] == 2)
                        sandbox.close(outsider)
                        #expect(a.connect("127.0.0.1:6000") == nil)
                    }
                }
            }
        }

        @Test func theCgroupOfTheSocketCounts() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.lookUp = .off
                try sandbox.attach(policy)
                let child = try sandbox.makeChild("child")
                let a = try sandbox.socket(bound: "127.0.0.1:5000", in: child)
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                let outsider = try sandbox.socket(bound: "127.0.0.1:5000", in: sandbox.outside)
                // All three are now used by this process, which is in neither cgroup.
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(outsider.connect("127.0.0.1:6000") == nil)
            }
        }

        /// Where no agent looks after the state, what others left of cgroups that are gone goes.
        @Test func aCgroupThatIsGoneIsLeftToTheAgent() throws {
            try Sandbox.run { sandbox in
                let child = try sandbox.makeChild("child")
                try sandbox.attach()
                try sandbox.attach(to: child)
                try Errno.check { rmdir(child.folder) }
                sandbox.state.removeAbandonedRuns(hasAgent: true)
                #expect(try sandbox.state.attachments().count == 2)
                sandbox.state.removeAbandonedRuns(hasAgent: false)
                #expect(try sandbox.state.attachments().map(\.id) == [sandbox.cgroup.id])
            }
        }

        @Test func parentAndChildMayBothBeGuarded() throws {
            try Sandbox.run { sandbox in
                let child = try sandbox.makeChild("child")
                try sandbox.attach()
                try sandbox.attach(to: child)
                let a = try sandbox.socket(bound: "127.0.0.1:5000", in: child)
                let b = try sandbox.socket(bound: "127.0.0.1:5000", in: child)
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(b.connect("127.0.0.1:6000") == "EPERM")
                #expect(try sandbox.state.counters(of: child.id).refused == 1)
                #expect(try sandbox.counters()[.alreadyRejected] == 1)
                sandbox.close(a)
                #expect(try sandbox.hasNoClaimsLeft())
            }
        }
    }
}
