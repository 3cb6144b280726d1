// SPDX-License-Identifier: Apache-2.0
// Conflicts, claims and metrics of pods, in cgroups and folders named as kubelet names them.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import TupleguardKernel

private let uid = "0f0c7e1c-5c06-4a2b-9a3e-1d2f3a4b5c6d"
private let id = String(repeating: "4f2b8a90", count: 8)

extension IntegrationTests {
    @Suite struct Pods {
        /// The cgroup of the container "nginx" of the pod "web-0", below the guarded one.
        private func makeContainer(_ sandbox: Sandbox) throws -> Cgroup {
            let pod = "kubepods-burstable-pod\(uid.replacing("-", with: "_")).slice"
            var path = "kubepods.slice"
            _ = try sandbox.makeChild(path)
            for part in ["kubepods-burstable.slice", pod] {
                path += "/" + part
                _ = try sandbox.makeChild(path)
            }
            return try sandbox.makeChild("\(path)/cri-containerd-\(id).scope")
        }

        private func withLogs(_ body: (String) throws -> Void) throws {
            try withTemporaryFolder { folder in
                for name in ["", "/pods", "/pods/shop_web-0_\(uid)", "/containers"] {
                    #expect(name.isEmpty || mkdir(folder + name, 0o755) == 0)
                }
                try makeFile("\(folder)/containers/web-0_shop_nginx-\(id).log")
                try body(folder)
            }
        }

        private let collide = """
            first = udp(5000, 6000)
            try: udp(5000, 6000)
            except PermissionError: print('refused', flush=True)
            """

        private let inPod = "in pod web-0 of shop, container nginx"

        @Test func areNamedWhereverAConflictIsTold() throws {
            try Sandbox.run { sandbox in
                try withLogs { logs in
                    let container = try makeContainer(sandbox)
                    let agent = try sandbox.startAgent([
                        "--pod-logs", logs, "--pod-cgroup", sandbox.cgroup.path,
                        "--metrics", "\(sandbox.runFolder)/metrics.sock",
                    ])
                    sandbox.endWithSandbox(agent)
                    let environment = [
                        "TUPLEGUARD_POD_LOGS": logs, "TUPLEGUARD_POD_CGROUP": sandbox.cgroup.path,
                    ]
                    func tupleguard(_ arguments: String...) throws -> Sandbox.Outcome {
                        try sandbox.command(
                            Sandbox.program("tupleguard"), arguments, environment: environment)
                    }
                    let program = try sandbox.condition(collide, in: container)
                    defer { program.end() }
                    #expect(program.outputSoFar.contains("refused"))
                    // The log, `conflicts` and `claims`, for people.
                    #expect(
                        eventually { agent.errorsSoFar.contains(inPod) }, "\(agent.errorsSoFar)")
                    #expect(try tupleguard("conflicts").output.contains(inPod))
                    let claims = try tupleguard("claims", "--port", "5000")
                    #expect(claims.output.contains("pod web-0 of shop, container nginx"))
                    // For programs.
                    let known = [
                        "uid": uid, "namespace": "shop", "name": "web-0", "container": "nginx",
                        "container_id": id,
                    ]
                    let conflicts = try tupleguard("conflicts", "--json").json
                    // A guard sees outsiders on the whole machine: others may have conflicts.
                    let last = (conflicts["conflicts"] as? [[String: Any]])?
                        .compactMap { $0["last"] as? [String: Any] }
                        .first {
                            ($0["claimant"] as? [String: Any])?["pid"] as? Int == Int(program.pid)
                        }
                    for party in ["claimant", "holder"] {
                        let pod = (last?[party] as? [String: Any])?["pod"] as? [String: String]
                        #expect(pod == known, "\(party)")
                    }
                    let claim = try tupleguard("claims", "--port", "5000", "--json").json
                    let claimed = (claim["claims"] as? [[String: Any]])?
                        .first { $0["pid"] as? Int == Int(program.pid) }
                    #expect(claimed?["pod"] as? [String: String] == known)
                    // What the agent has counted.
                    let line =
                        #"tupleguard_pod_connects_refused_total{pod_namespace="shop",pod_name="web-0",pod_container="nginx"} 1"#
                    let metrics = try tupleguard("metrics", "--namespace", "self").output
                    #expect(metrics.contains("\n\(line)\n"), "\(metrics)")
                    let without = try tupleguard(
                        "metrics", "--namespace", "self", "--no-pod-labels")
                    #expect(without.status == 0 && !without.output.contains("pod_name"))
                }
            }
        }

        /// The ports of a pod's network namespace are the pod's.
        @Test func arePartOfTheNamesOfPorts() throws {
            try Sandbox.run { sandbox in
                try withLogs { logs in
                    let container = try makeContainer(sandbox)
                    let program = try sandbox.condition(
                        "for port in range(40000, 40005): udp(port, 6000)", in: container)
                    defer { program.end() }
                    func metrics(_ more: String...) throws -> String {
                        try sandbox.command(
                            Sandbox.program("tupleguard"),
                            ["metrics", "--namespace", "self"] + more, in: container,
                            environment: [
                                "TUPLEGUARD_POD_LOGS": logs,
                                "TUPLEGUARD_POD_CGROUP": sandbox.cgroup.path,
                            ]
                        ).output
                    }
                    let ends =
                        #"protocol="udp",source="127.0.0.1",destination="127.0.0.1:6000""#
                    let pod = #"pod_namespace="shop",pod_name="web-0""#
                    #expect(
                        try metrics().contains("\ntupleguard_ports_used{\(ends),\(pod)} 5\n"))
                    #expect(
                        try metrics("--no-pod-labels").contains(
                            "\ntupleguard_ports_used{\(ends)} 5\n"))
                }
            }
        }

        /// Whoever has a cgroup delegated calls those below it as they like.
        @Test func areNotWhoeverSaysSo() throws {
            try Sandbox.run { sandbox in
                try withLogs { logs in
                    let container = try makeContainer(sandbox)
                    let agent = try sandbox.startAgent(["--pod-logs", logs])
                    sandbox.endWithSandbox(agent)
                    let program = try sandbox.condition(collide, in: container)
                    defer { program.end() }
                    #expect(eventually { agent.errorsSoFar.contains("in \(container.path)") })
                    #expect(!agent.errorsSoFar.contains("in pod"))
                }
            }
        }
    }
}
