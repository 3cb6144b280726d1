// SPDX-License-Identifier: Apache-2.0
// Programs that give a connect another destination, before the guard sees it and after.

import CTupleguardLibbpf
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

/// The tests' own load balancer (rewriter.bpf.c), on a cgroup for as long as this value lives.
private struct Rewriter: ~Copyable {
    private let connect4: Link
    private let connect6: Link

    init(attachingTo cgroup: Cgroup) throws {
        let object = try BPFObject(
            rewriterObjectWords, length: rewriterObjectLength, name: "rewriter")
        let pointer = object.pointer
        try perform("load the rewriter") { bpf_object__load(pointer) }
        func program(_ name: String) -> Int32 {
            bpf_program__fd(bpf_object__find_program_by_name(pointer, name))
        }
        let connect4 = try Link(attaching: program("rewrite4"), to: cgroup, at: .connect4)
        let connect6 = try Link(attaching: program("rewrite6"), to: cgroup, at: .connect6)
        self.connect4 = connect4
        self.connect6 = connect6
    }

    deinit {
        connect4.detach()
        connect6.detach()
    }
}

extension IntegrationTests {
    @Suite struct Rewriters {
        /// Two services, and what stands behind both.
        struct Services: Sendable, CustomTestStringConvertible {
            let kind: Sandbox.Kind
            let local: String
            let one: String
            let other: String
            let backend: String
            var testDescription: String { one }

            static let all = [
                Services(
                    kind: .v4, local: "127.0.0.1:5000", one: "10.96.0.1:53", other: "10.96.0.2:53",
                    backend: "127.0.0.1:7800"),
                Services(
                    kind: .v6, local: "[::1]:5000", one: "[fd96::1]:53", other: "[fd96::2]:53",
                    backend: "[::1]:7800"),
            ]
        }

        private func pair(_ sandbox: Sandbox, _ services: Services) throws -> (
            TestSocket, TestSocket
        ) {
            (
                try sandbox.socket(services.kind, bound: services.local),
                try sandbox.socket(services.kind, bound: services.local)
            )
        }

        private func names(_ programs: [OtherProgram]) -> [String] {
            programs.map { "\($0.name) of \($0.cgroup) \($0.runsAfter ? "after" : "before")" }
        }

        @Test(arguments: Services.all)
        func behindARewriterTheGuardSeesWhatItDid(_ services: Services) throws {
            try Sandbox.run { sandbox in
                let rewriter = try Rewriter(attachingTo: sandbox.cgroup)
                try sandbox.attach()
                let found = try sandbox.state.otherPrograms(of: sandbox.cgroup)
                #expect(
                    names(found) == [
                        "rewrite4 of \(sandbox.cgroup.path) before",
                        "rewrite6 of \(sandbox.cgroup.path) before",
                    ])
                let (a, b) = try pair(sandbox, services)
                #expect(a.connect(services.one) == nil)
                #expect(a.remote?.description == services.backend)
                #expect(b.connect(services.other) == "EPERM")
                #expect(try sandbox.claims().map(\.tuple.remote.description) == [services.backend])
                _ = consume rewriter
            }
        }

        @Test(arguments: Services.all)
        func oneOfAChildRunsBeforeTheGuardToo(_ services: Services) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let child = try sandbox.makeChild("child")
                let rewriter = try Rewriter(attachingTo: child)
                #expect(
                    names(try sandbox.state.otherPrograms(of: sandbox.cgroup)) == [
                        "rewrite4 of \(child.path) before", "rewrite6 of \(child.path) before",
                    ])
                let a = try sandbox.socket(services.kind, bound: services.local, in: child)
                let b = try sandbox.socket(services.kind, bound: services.local)
                #expect(a.connect(services.one) == nil)
                #expect(b.connect(services.backend) == "EPERM")
                _ = consume rewriter
            }
        }

        /// The guard cannot see what is done after it. What it can: say so, and not take the claim
        /// for a stale one.
        @Test(arguments: Services.all, [false, true])
        func inFrontOfARewriterTheClaimIsNoStaleOne(_ services: Services, above: Bool) throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.graceNanoseconds = 0
                try sandbox.attach(policy)
                let place = above ? sandbox.top : sandbox.cgroup
                let rewriter = try Rewriter(attachingTo: place)
                #expect(
                    names(try sandbox.state.otherPrograms(of: sandbox.cgroup)) == [
                        "rewrite4 of \(place.path) after", "rewrite6 of \(place.path) after",
                    ])
                let (a, b) = try pair(sandbox, services)
                #expect(a.connect(services.one) == nil)
                #expect(a.remote?.description == services.backend)
                #expect(b.connect(services.one) == "EPERM")
                #expect(try sandbox.counters()[.refusedRewritten] == 1)
                #expect(try sandbox.counters()[.takenOver] == 0)
                let conflict = try #require(try sandbox.state.conflicts().first)
                #expect(conflict.last.reason == .rewritten)
                #expect(conflict.last.holderCookie == a.cookie)
                // Nor does a sweep take it away.
                var swept = Swept()
                #expect(
                    try eventually { () throws in
                        swept = try sandbox.state.sweep()
                        return swept.rewritten == 1
                    })
                #expect(swept.dropped == 0)
                sandbox.close(a)
                #expect(b.connect(services.one) == nil)
                _ = consume rewriter
            }
        }

        @Test(arguments: Services.all)
        func replacingPutsTheGuardBehindWhatCameAfterIt(_ services: Services) throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let rewriter = try Rewriter(attachingTo: sandbox.cgroup)
                let (a, b) = try pair(sandbox, services)
                #expect(a.connect(services.one) == nil)
                #expect(b.connect(services.other) == nil)  // both are where no claim is
                sandbox.close(b)
                try sandbox.state.attach(sandbox.cgroup, policy: Policy(), replacing: true)
                #expect(
                    names(try sandbox.state.otherPrograms(of: sandbox.cgroup)) == [
                        "rewrite4 of \(sandbox.cgroup.path) before",
                        "rewrite6 of \(sandbox.cgroup.path) before",
                    ])
                // One guard, not two, and the claims of before are its own.
                #expect(try AttachedPrograms(at: sandbox.cgroup, .connect4).ids.count == 2)
                #expect(a.connect(services.one) == nil)
                let c = try sandbox.socket(services.kind, bound: services.local)
                #expect(c.connect(services.other) == "EPERM")
                #expect(try sandbox.counters()[.refusedHeld] == 1)
                sandbox.close(a)
                #expect(c.connect(services.other) == nil)
                try sandbox.state.detach(sandbox.cgroup.id, path: sandbox.cgroup.path)
                #expect(try AttachedPrograms(at: sandbox.cgroup, .connect4).ids.count == 1)
                _ = consume rewriter
            }
        }

        @Test func theCommandsNameWhatRunsAfterTheGuard() throws {
            try Sandbox.run { sandbox in
                let folder = sandbox.cgroup.folder
                let path = sandbox.cgroup.path
                let alone = try sandbox.tupleguard("attach", "--outsiders", "ignore", folder)
                #expect(alone.status == 0, "\(alone.errors)")
                #expect(!alone.output.contains("runs after"))
                let rewriter = try Rewriter(attachingTo: sandbox.cgroup)
                let status = try sandbox.tupleguard("status").output
                #expect(status.contains("(rewrite4) on connect4 of \(path) runs after the guard"))
                #expect(status.contains("tupleguard attach --replace \(path)"))
                #expect(status.contains("ignore"))
                #expect(!status.contains("(outsiders)"))
                let json = try sandbox.tupleguard("status", "--json").output
                #expect(json.contains("\"rewrite6\""))
                #expect(json.contains("\"runs_after\""))
                let gauge = "\ntupleguard_programs_after_guard{cgroup=\"\(path)\"}"
                #expect(try sandbox.tupleguard("metrics").output.contains("\(gauge) 2\n"))
                let doctor = try sandbox.tupleguard("doctor", "--json").output
                #expect(doctor.contains("\"guard-followed\""))
                let replaced = try sandbox.tupleguard(
                    "attach", "--replace", "--outsiders", "ignore", folder)
                #expect(replaced.status == 0, "\(replaced.errors)")
                #expect(!replaced.output.contains("runs after"), "\(replaced.output)")
                #expect(try sandbox.tupleguard("status").output.contains("runs before the guard"))
                #expect(try sandbox.tupleguard("metrics").output.contains("\(gauge) 0\n"))
                #expect(
                    !(try sandbox.tupleguard("doctor", "--json").output).contains("guard-followed"))
                _ = consume rewriter
            }
        }

        /// A socket whose latest connect failed is where it was, not where a program sent it.
        @Test func aFailedConnectIsNoRewriting() throws {
            try Sandbox.run { sandbox in
                var policy = Policy()
                policy.graceNanoseconds = 0
                try sandbox.attach(policy)
                let a = try sandbox.socket(bound: "127.0.0.1:5000")
                let b = try sandbox.socket(bound: "127.0.0.1:5000")
                #expect(a.connect("127.0.0.1:6000") == nil)
                #expect(a.connect("192.0.2.1:6000") != nil)  // no route
                #expect(a.remote?.description == "127.0.0.1:6000")
                #expect(b.connect("192.0.2.1:6000") != "EPERM")
                #expect(try sandbox.counters()[.refusedRewritten] == 0)
                #expect(try sandbox.counters()[.takenOver] == 1)
            }
        }
    }
}
