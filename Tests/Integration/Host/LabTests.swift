// SPDX-License-Identifier: Apache-2.0
// The lab on the real kernel: what each row is known to come to, and what is left behind.

import Foundation
import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

/// What the lab prints with --json.
private struct Report: Decodable {
    struct Capacity: Decodable {
        let openedToOne: Int
        let openedToMany: Int
        let tuplesToOne: Int
        let tuplesToMany: Int
        let errno: String?
        let failedCall: String?
    }
    struct Contention: Decodable {
        let threads: Int
        let otherSockets: Int
        let rounds: Int
        let attempts: Int
        let succeeded: Int
        let overshadowed: Int
        let failures: [String: Int]
        let lostRounds: Proportion
    }
    struct Proportion: Decodable {
        let count: Int
        let trials: Int
        let share: Double?
        let low: Double
        let high: Double
    }
    struct Technique: Decodable {
        let name: String
        let transport: String
        let calls: String
        let sharesSource: Bool
        let capacity: Capacity
        let contention: Contention
    }
    struct Observation: Decodable {
        let name: String
        let result: String
        let numbers: [String: Int]
        let errno: String?
    }
    struct Retry: Decodable {
        let busyPercent: Int
        let computed: Double
        let trials: Int
        let failed: Int
        let attempts: Int
        let collisions: Int
        let collidedThrough: [Int]
    }
    struct Fill: Decodable {
        struct Point: Decodable {
            let free: Int
            let microseconds: Int
            let probes: Int?
        }
        let name: String
        let ports: Int
        let points: [Point]
        let errno: String?
    }
    struct Cost: Decodable {
        struct Point: Decodable {
            let otherSockets: Int
            let nanoseconds: Int
        }
        let name: String
        let points: [Point]
    }
    struct LeftOut: Decodable {
        let name: String
        let why: String
    }
    struct Setting: Decodable {
        let ports: Int
        let destinations: Int
    }

    let kernel: String
    let processors: Int
    let setting: Setting
    let isGuarded: Bool
    let techniques: [Technique]
    let observations: [Observation]
    let retries: [Retry]
    let fills: [Fill]
    let costs: [Cost]
    let leftOut: [LeftOut]

    init(_ outcome: Sandbox.Outcome) throws {
        try #require(outcome.status == 0, "\(outcome.errors)")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(outcome.output.utf8))
    }

    func technique(_ name: String) throws -> Technique {
        try #require(techniques.first { $0.name == name }, "no row \(name)")
    }

    func observation(_ name: String) throws -> Observation {
        try #require(observations.first { $0.name == name }, "no row \(name)")
    }
}

/// What a technique has to come to with 20 ports and 5 destinations.
private struct Expectation: Sendable, CustomTestStringConvertible {
    let name: String
    let toOne: Int
    let toMany: Int
    let failure: String
    let shares: Bool

    init(_ name: String, _ toOne: Int, _ toMany: Int, _ failure: String, shares: Bool) {
        self.name = name
        self.toOne = toOne
        self.toMany = toMany
        self.failure = failure
        self.shares = shares
    }

    var testDescription: String { name }

    /// Those that let nobody be overshadowed.
    static let sound = [
        Self("tcp-connect", 20, 100, "EADDRNOTAVAIL connect", shares: true),
        Self("tcp-bind", 20, 20, "EADDRINUSE bind", shares: false),
        Self("tcp-no-port", 20, 100, "EADDRNOTAVAIL connect", shares: true),
        Self("tcp-reuse-bind", 20, 100, "EADDRNOTAVAIL connect", shares: true),
        // SO_REUSEADDR is not enough for bind() to share a port that it chooses.
        Self("tcp-retry", 20, 20, "EADDRINUSE bind", shares: false),
        Self("tcp-connectx", 20, 100, "EADDRNOTAVAIL connectx", shares: true),
        Self("udp-connect", 20, 20, "EAGAIN connect", shares: false),
        Self("udp-barrier", 20, 100, "EADDRINUSE look-up", shares: true),
        Self("udp-barrier-crowded", 20, 100, "EADDRINUSE look-up", shares: true),
        Self("udp-connectx", 20, 100, "EAGAIN connectx", shares: true),
        Self("udp-guard", 20, 100, "EPERM connect", shares: true),
        Self("udp-guard-discover", 20, 100, "EADDRNOTAVAIL connect", shares: true),
    ]

    /// Those that refuse duplicates, unless they come at the wrong moment.
    static let racy = [
        Self("udp-look-up", 20, 100, "EPERM connect", shares: true),
        Self("udp-lock-crowded", 20, 100, "EADDRINUSE look-up", shares: true),
    ]

    fileprivate func check(_ row: Report.Technique) {
        #expect(row.capacity.openedToOne == toOne)
        #expect(row.capacity.tuplesToOne == toOne)
        #expect(row.capacity.openedToMany == toMany)
        #expect(row.capacity.tuplesToMany == toMany)
        #expect("\(row.capacity.errno ?? "-") \(row.capacity.failedCall ?? "-")" == failure)
        #expect(row.sharesSource == shares)
        #expect(row.contention.attempts == row.contention.rounds * row.contention.threads)
        #expect(row.contention.rounds > 0)
        let failures = row.contention.failures.values.reduce(0, +)
        #expect(row.contention.succeeded + failures == row.contention.attempts)
    }
}

extension IntegrationTests {
    @Suite struct LabRows {
        private func lab(_ arguments: String..., asNobody: Bool = false) throws -> Sandbox.Outcome {
            var outcome: Sandbox.Outcome?
            try Sandbox.run { sandbox in
                outcome = try sandbox.command(
                    Sandbox.program("tupleguard"), ["lab"] + arguments, asNobody: asNobody)
            }
            return try #require(outcome)
        }

        @Test(arguments: Expectation.sound)
        private func nobodyIsOvershadowed(_ expectation: Expectation) throws {
            let report = try Report(
                lab("--only", expectation.name, "--json", "--contend", "0.5"))
            let row = try report.technique(expectation.name)
            expectation.check(row)
            #expect(row.contention.succeeded > 0)
            #expect(row.contention.overshadowed == 0)
            #expect(report.isGuarded == false)
            #expect(report.leftOut.isEmpty)
        }

        /// The race is there to be lost, but not in every second.
        @Test(arguments: Expectation.racy)
        private func racesAreLost(_ expectation: Expectation) throws {
            var overshadowed = 0
            for _ in 0..<60 where overshadowed == 0 {
                let report = try Report(
                    lab("--only", expectation.name, "--json", "--contend", "1"))
                let row = try report.technique(expectation.name)
                expectation.check(row)
                overshadowed += row.contention.overshadowed
            }
            #expect(overshadowed > 0)
        }

        /// SO_REUSEADDR alone refuses nothing.
        @Test(arguments: ["udp-reuse", "udp-reuse-bind"])
        func sharingOnTrustOvershadows(_ name: String) throws {
            let report = try Report(lab("--only", name, "--json", "--contend", "0.2"))
            let row = try report.technique(name)
            #expect(row.capacity.errno == nil)
            #expect(row.capacity.openedToOne == 40)
            #expect((2...20).contains(row.capacity.tuplesToOne))
            #expect(row.capacity.openedToMany == 200)
            #expect(row.sharesSource)
            #expect(row.contention.failures.isEmpty)
            // All but one of each round.
            let rounds = row.contention.rounds
            #expect(row.contention.overshadowed == rounds * (row.contention.threads - 1))
            #expect(row.contention.lostRounds.count == rounds)
            #expect(row.contention.lostRounds.trials == rounds)
            #expect(row.contention.lostRounds.share == 1)
            #expect(row.contention.lostRounds.low < 1 && row.contention.lostRounds.high == 1)
        }

        /// 20 ports while they last; then bind() shares, but chooses among a few of them only.
        @Test func retryingSharesWithTheSetting() throws {
            let report = try Report(
                lab("--only", "tcp-retry-autobind", "--json", "--contend", "0.2"))
            let row = try report.technique("tcp-retry-autobind")
            #expect(row.sharesSource)
            #expect(row.capacity.openedToOne == 20)
            #expect((21..<100).contains(row.capacity.openedToMany))
            #expect(row.capacity.errno == "EADDRNOTAVAIL")
            #expect(row.contention.overshadowed == 0)
        }

        @Test func lockWithFewOthersIsSharedAndRefuses() throws {
            let report = try Report(lab("--only", "udp-lock", "--json", "--contend", "0.2"))
            let row = try report.technique("udp-lock")
            Expectation("udp-lock", 20, 100, "EADDRINUSE look-up", shares: true).check(row)
            #expect(row.contention.otherSockets == 10)
        }

        @Test func timeWaitHoldsPortsUnlessReused() throws {
            let report = try Report(
                lab("--only", "tcp-time-wait,tcp-time-wait-reuse", "--json"))
            let held = try report.observation("tcp-time-wait")
            #expect(held.numbers == ["opened": 20, "time_wait": 20, "opened_again": 0])
            #expect(held.errno == "EADDRNOTAVAIL")
            let reused = try report.observation("tcp-time-wait-reuse")
            #expect(reused.numbers == ["opened": 20, "time_wait": 20, "opened_again": 20])
        }

        @Test func destinationsBringPortsAndUnixSocketsNeedNone() throws {
            let report = try Report(
                lab("--only", "tcp-per-destination,tcp-loopback-range,unix", "--json"))
            #expect(
                try report.observation("tcp-per-destination").numbers
                    == ["first": 20, "second": 20])
            #expect(
                try report.observation("tcp-loopback-range").numbers
                    == ["opened": 100, "addresses": 5])
            let unix = try report.observation("unix")
            #expect(unix.numbers == ["opened": 200, "wanted": 200])
            #expect(unix.errno == nil)
        }

        /// 1 in 256 of 10,000 is 39; six standard deviations are 37, and six are allowed to each
        /// rate.
        @Test func retryTableIsWhatIsComputed() throws {
            let report = try Report(lab("--only", "retry", "--json"))
            #expect(report.retries.map(\.busyPercent) == [1, 10, 50])
            for row in report.retries {
                #expect(row.trials == 10_000)
                let rate = Double(row.collisions) / Double(row.attempts)
                let expected = Double(row.busyPercent) / 100
                let deviation = (expected * (1 - expected) / Double(row.attempts)).squareRoot()
                #expect(abs(rate - expected) < 6 * deviation, "\(row.busyPercent)%: \(rate)")
                #expect(row.collidedThrough.reduce(0, +) == row.collisions)
                #expect(row.collidedThrough.last == row.failed)
                #expect(row.collidedThrough == row.collidedThrough.sorted(by: >))
            }
            #expect((3...76).contains(report.retries[2].failed))
            #expect(report.retries[0].failed == 0)
            #expect(report.retries[2].computed == 1.0 / 256)
        }

        /// Every way uses all ports in the end; those that probe look at each once at least.
        @Test func portsFillUpToTheLast() throws {
            let report = try Report(lab("--only", "fill", "--json"))
            #expect(
                report.fills.map(\.name) == [
                    "fill-random", "fill-in-turn", "fill-connectx", "fill-guard",
                ])
            for fill in report.fills {
                #expect(fill.errno == nil, "\(fill.name)")
                #expect(fill.ports == 1000)
                #expect(fill.points.first?.free == 1000)
                #expect(fill.points.last?.free == 0)
                let times = fill.points.map(\.microseconds)
                #expect(times == times.sorted())
                let probes = fill.points.compactMap(\.probes)
                #expect(probes == probes.sorted())
                if let last = probes.last {
                    // The last port alone takes a thousand at random, and 500 in turn.
                    #expect(last > 3000)
                    #expect(probes.count == fill.points.count)
                }
            }
            #expect(
                report.fills.map { $0.points.last?.probes != nil } == [true, true, false, false])
        }

        @Test func connectsAreTimedBesideMoreAndMoreSockets() throws {
            let report = try Report(lab("--only", "cost", "--json"))
            #expect(report.costs.map(\.name) == ["cost-bare", "cost-look-up", "cost-guard"])
            for cost in report.costs {
                #expect(cost.points.map(\.otherSockets) == [1, 3, 10, 30, 100, 300, 1000, 3000])
                for point in cost.points { #expect(point.nanoseconds > 0) }
            }
        }

        @Test func picturesAreFilesThatNeedNothingElse() throws {
            try withTemporaryFolder { folder in
                let path = folder + "/lab.html"
                let json = try Report(
                    lab(
                        "--only", "udp-reuse-bind,retry-50,fill-random,cost-bare", "--contend",
                        "0.1", "--json", "--html", path))
                #expect(json.fills.count == 1)
                let page = try #require(contents(of: path))
                for name in [
                    "capacity", "overshadowed", "fill-time", "fill-probes", "cost", "retries",
                ] {
                    #expect(page.contains("<figure id=\"\(name)\">"))
                }
                #expect(page.contains(">100% of "))
                #expect(page.contains("Linux \(KernelVersion.runningRelease)"))
                #expect(page.contains("The page was made at 20"))
                #expect(names(in: folder) == ["lab.html"])
            }
            let svg = try lab("--svg", "cost", "--only", "cost-bare").output
            #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
            #expect(svg.contains("other sockets on the address and port"))
            let page = try lab("--only", "retry-50", "--html", "-").output
            #expect(page.hasPrefix("<!doctype html>") && page.hasSuffix("</html>\n"))
        }

        /// Before the minute that it takes, not after.
        @Test func aPageThatCannotBeWrittenIsRefusedAtOnce() throws {
            let outcome = try lab("--thorough", "--html", "/dev/null")
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("no ordinary file"))
            let nothing = try lab("--svg", "cost", "--only", "unix")
            #expect(nothing.status == 64)
            #expect(nothing.errors.contains("--only names no row of it; name cost, or some of"))
            #expect(nothing.errors.contains("cost-bare"))
        }

        /// The arguments make sense: root is what is missing.
        @Test func aPictureOfWhatCannotBeMeasuredIsAFailure() throws {
            let outcome = try lab("--svg", "cost", "--only", "cost-guard", asNobody: true)
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("nothing of it was measured: cost-guard: "))
            #expect(outcome.errors.contains("CAP_BPF"))
            #expect(outcome.output == "")
        }

        @Test func unprivilegedLeavesOutWhatNeedsBPFAndSaysWhy() throws {
            let report = try Report(
                lab(
                    "--only", "tcp-no-port,udp-look-up,udp-reuse-bind,udp-guard,unix", "--json",
                    "--contend", "0.2", asNobody: true))
            #expect(report.leftOut.map(\.name) == ["udp-look-up", "udp-guard"])
            for row in report.leftOut {
                #expect(row.why.contains("CAP_BPF"))
                #expect(row.why.contains("run it as root"))
            }
            #expect(report.techniques.map(\.name) == ["tcp-no-port", "udp-reuse-bind"])
            #expect(try report.technique("udp-reuse-bind").contention.overshadowed > 0)
            #expect(report.observations.map(\.name) == ["unix"])
            for form in [[], ["--markdown"]] {
                var text: Sandbox.Outcome?
                try Sandbox.run { sandbox in
                    text = try sandbox.command(
                        Sandbox.program("tupleguard"), ["lab", "--only", "udp-guard,unix"] + form,
                        asNobody: true)
                }
                #expect(text?.output.contains("left out: udp-guard: ") == true)
            }
        }

        @Test func withoutUserNamespacesTheSettingIsNamed() throws {
            try Sandbox.run { sandbox in
                let outcome = try sandbox.command(
                    "/usr/bin/unshare",
                    [
                        "--user", "--map-root-user", "/bin/sh", "-c",
                        """
                        echo 0 >/proc/sys/user/max_user_namespaces
                        exec setpriv --bounding-set=-all "$0" lab --only unix
                        """, Sandbox.program("tupleguard"),
                    ])
                #expect(outcome.status == 1)
                #expect(outcome.errors.contains("user.max_user_namespaces = 0"))
                #expect(outcome.errors.contains("sudo"))
            }
        }

        @Test func guardedProcessesAreTold() throws {
            try Sandbox.run { sandbox in
                try sandbox.attach()
                let program = Sandbox.program("tupleguard")
                let outcome = try sandbox.command(
                    program, ["lab", "--only", "udp-reuse-bind", "--json", "--contend", "0.2"],
                    in: sandbox.cgroup)
                let report = try Report(outcome)
                #expect(report.isGuarded)
                #expect(try report.technique("udp-reuse-bind").contention.overshadowed == 0)
                let text = try sandbox.command(
                    program, ["lab", "--only", "udp-reuse-bind", "--contend", "0.1"],
                    in: sandbox.cgroup)
                #expect(text.output.contains("A guard covers this process"))
            }
        }

        @Test func textAndMarkdown() throws {
            let rows = ["--only", "tcp-bind,tcp-time-wait,retry-50", "--contend", "0.1"]
            let text = try lab(rows[0], rows[1], rows[2], rows[3])
            #expect(text.output.contains("tcp-bind       20      20  EADDRINUSE  no      0 of "))
            #expect(text.output.contains("  bind(ip, 0), connect()\n"))
            #expect(text.output.contains("1 in 256"))
            #expect(text.errors == "")
            let shared = try lab("--only", "udp-reuse-bind", "--contend", "0.1").output
            #expect(shared.contains("udp-reuse-bind   20/40  100/200  no error  yes "))
            for line in text.output.split(separator: "\n") { #expect(line.count <= 100, "\(line)") }
            let markdown = try lab(rows[0], rows[1], rows[2], rows[3], "--markdown")
            #expect(
                markdown.output.contains(
                    "| tcp-bind | bind(ip, 0), connect() | 20 | 20 | EADDRINUSE (bind) | no | 0 of "
                ))
            #expect(markdown.output.contains("Linux \(KernelVersion.runningRelease)"))
        }
    }

    /// What is left when a lab is over, however it ended.
    @Suite struct LabTidiness {
        private let mount = (try? CgroupHierarchy())?.mountPoint ?? "/sys/fs/cgroup"

        /// A lab with the guard attached.
        private func start(_ sandbox: Sandbox) throws -> RunningProgram {
            let run = try sandbox.start(
                Sandbox.program("tupleguard"), ["lab", "--only", "udp-guard", "--contend", "60"])
            let isUp = eventually { names(in: "\(state(run))/maps").count > 0 && inCgroup(run) }
            #expect(isUp, "\(run.errorsSoFar)")
            return run
        }

        private func state(_ run: RunningProgram) -> String {
            "/sys/fs/bpf/tupleguard-lab-\(run.pid)"
        }

        private func inCgroup(_ run: RunningProgram) -> Bool {
            (contents(of: "/proc/\(run.pid)/cgroup") ?? "").contains("tupleguard-exec-\(run.pid)")
        }

        private func keepers(_ run: RunningProgram) -> [Int32] {
            names(in: "/proc").compactMap { Int32($0) }.filter { pid in
                (contents(of: "/proc/\(pid)/cmdline") ?? "").hasSuffix("lab-keeper\0\(run.pid)\0")
            }
        }

        private func cgroups(_ run: RunningProgram) -> [String] {
            let found = FileManager.default.enumerator(atPath: mount)?.compactMap { $0 as? String }
            return (found ?? []).filter { $0.hasSuffix("tupleguard-exec-\(run.pid)") }
        }

        private func namespace(_ run: RunningProgram) throws -> String {
            try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(run.pid)/ns/net")
        }

        private func users(of namespace: String) -> [String] {
            names(in: "/proc").filter { pid in
                (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/net"))
                    == namespace
            }
        }

        @Test(arguments: [SIGINT, SIGTERM, SIGHUP, SIGKILL])
        func signalsLeaveNothing(_ signal: Int32) throws {
            try Sandbox.run { sandbox in
                let run = try start(sandbox)
                #expect(keepers(run).count == 1)
                #expect(cgroups(run).count == 1)
                let namespace = try namespace(run)
                // As long as we have it, no other gets its number.
                let held = try OwnedDescriptor(path: "/proc/\(run.pid)/ns/net", flags: O_RDONLY)
                defer { _ = held.raw }
                run.signal(signal)
                #expect(run.wait().status == 128 + signal)
                #expect(eventually { keepers(run).isEmpty })
                #expect(access(state(run), F_OK) != 0)
                #expect(cgroups(run).isEmpty)
                #expect(users(of: namespace).isEmpty)
            }
        }

        @Test func anOrdinaryEndLeavesNothing() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    ["lab", "--only", "udp-look-up,udp-guard", "--contend", "0.1"])
                #expect(run.wait().status == 0)
                #expect(keepers(run).isEmpty)
                #expect(access(state(run), F_OK) != 0)
                #expect(cgroups(run).isEmpty)
            }
        }

        /// A hook is for its own row: the next one is measured without.
        @Test func hooksGoWithTheirRow() throws {
            try Sandbox.run { sandbox in
                let run = try sandbox.start(
                    Sandbox.program("tupleguard"),
                    ["lab", "--only", "udp-look-up,udp-lock", "--contend", "3"])
                ending(run) {
                    #expect(eventually { inCgroup(run) })
                    #expect(eventually { !inCgroup(run) && keepers(run).count == 1 })
                }
            }
        }

        /// Killed together with its keeper, a lab is tidied up after by the next.
        @Test func theNextLabTidiesUp() throws {
            try Sandbox.run { sandbox in
                let run = try start(sandbox)
                for keeper in keepers(run) { kill(keeper, SIGKILL) }
                run.signal(SIGKILL)
                _ = run.wait()
                #expect(access(state(run), F_OK) == 0)
                #expect(cgroups(run).count == 1)
                let next = try sandbox.tupleguard(
                    "lab", "--only", "udp-guard", "--contend", "0.1")
                #expect(next.status == 0)
                #expect(access(state(run), F_OK) != 0)
                #expect(cgroups(run).isEmpty)
            }
        }
    }
}
