// SPDX-License-Identifier: Apache-2.0
// Pods by the names of cgroups, as drivers and runtimes write them, and as impostors do.

import Glibc
import Testing
import TupleguardLinux
import TupleguardTestSupport

private let uid = "0f0c7e1c-5c06-4a2b-9a3e-1d2f3a4b5c6d"
private let slice = uid.replacing("-", with: "_")
private let id = String(repeating: "4f2b8a90", count: 8)
private let other = String(repeating: "00c0ffee", count: 8)

@Suite struct PodTests {
    @Test(
        "systemd and cgroupfs, each class of service, each runtime",
        arguments: [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\(slice).slice/cri-containerd-\(id).scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\(slice).slice/crio-\(id).scope",
            "/kubepods.slice/kubepods-pod\(slice).slice/docker-\(id).scope",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod\(slice).slice/cri-containerd-\(id).scope",
            "/kubelet/kubepods/burstable/pod\(uid)/\(id)",
            "/kubepods/burstable/pod\(uid)/\(id)", "/kubepods/besteffort/pod\(uid)/crio-\(id)",
            "/kubepods/pod\(uid)/\(id)",
            // Below a container everything is the container's own to name.
            "/kubepods/pod\(uid)/\(id)/kubepods/pod11111111-5c06-4a2b-9a3e-1d2f3a4b5c6d/\(other)",
        ])
    func containers(_ path: String) throws {
        let pod = try #require(Pod(ofCgroup: path))
        #expect(pod.uid == uid)
        #expect(pod.containerId == id)
        #expect(pod.description == "pod \(uid), container 4f2b8a904f2b")
    }

    @Test(
        "The pod's own cgroup, and what is no container's",
        arguments: [
            "/kubepods/pod\(uid)", "/kubepods.slice/kubepods-pod\(slice).slice",
            "/kubepods.slice/kubepods-pod\(slice).slice/crio-conmon-\(id).scope",
            "/kubepods/pod\(uid)/\(id.dropLast())", "/kubepods/pod\(uid)/\(id.uppercased())",
        ])
    func withoutContainer(_ path: String) throws {
        let pod = try #require(Pod(ofCgroup: path))
        #expect(pod.uid == uid && pod.containerId == nil)
    }

    @Test("A static pod's UID is a hash")
    func staticPods() throws {
        let hash = String(id.prefix(32))
        #expect(Pod(ofCgroup: "/kubepods/burstable/pod\(hash)/\(id)")?.uid == hash)
        #expect(
            Pod(
                ofCgroup:
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\(hash).slice")?
                .uid == hash)
    }

    @Test(
        "Nobody becomes a pod by naming a cgroup",
        arguments: [
            "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod\(slice).slice",
            "/system.slice/web.service/kubepods/pod\(uid)/\(id)", "/", "/kubepods",
            "/kubepods.slice",
            "/kubepods/burstable", "/kubepods/other/pod\(uid)", "/kubepods/pod\(uid)x",
            "/kubepods/pod../\(id)", "/kubepods/pod\(slice)/\(id)",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-pod\(slice).slice",
            "/kubepods.slice/other-pod\(slice).slice",
            "/mykubepods.slice/mykubepods-pod\(slice).slice",
            "/kubepods/pod\u{202e}\(uid.dropFirst())/\(id)",
            // Characters as many as there ought to be, with an accent or a joiner on one of them.
            "/kubepods/pod0\u{301}\(uid.dropFirst())/\(id)", "/kubepods/pod\(uid)\u{200d}/\(id)",
        ])
    func impostors(_ path: String) {
        #expect(Pod(ofCgroup: path) == nil)
    }

    @Test("Where kubelet has a cgroup of its own for all")
    func root() {
        let path = "/nodes/one/kubepods/pod\(uid)/\(id)"
        #expect(Pod(ofCgroup: path) == nil)
        #expect(Pod(ofCgroup: path, below: "/nodes/one")?.uid == uid)
        #expect(Pod(ofCgroup: "/nodes/one2/kubepods/pod\(uid)", below: "/nodes/one") == nil)
    }
}

@Suite struct PodNameTests {
    private let cgroup = "/kubepods/pod\(uid)/\(id)"

    /// Folders as kubelet makes them, with these names in them.
    private func withLogs(
        pods: [String], containers: [String], _ body: (PodNames, String) throws -> Void
    ) throws {
        try withTemporaryFolder { folder in
            #expect(
                mkdir(folder + "/pods", 0o755) == 0 && mkdir(folder + "/containers", 0o755) == 0)
            for name in pods { #expect(mkdir("\(folder)/pods/\(name)", 0o755) == 0) }
            for name in containers { try makeFile("\(folder)/containers/\(name)") }
            var places = PodNames.Places()
            places.logs = folder
            try body(PodNames(places), folder)
        }
    }

    @Test func podsAndContainersHaveNames() throws {
        try withLogs(pods: ["shop_web-0_\(uid)"], containers: ["web-0_shop_nginx-\(id).log"]) {
            names, _ in
            let pod = try #require(names.pod(ofCgroup: cgroup))
            #expect(pod.description == "pod web-0 of shop, container nginx")
            #expect(names.pod(ofCgroup: "/kubepods/pod\(uid)")?.description == "pod web-0 of shop")
            #expect(names.pod(ofCgroup: "/system.slice/web-0.service") == nil)
        }
    }

    @Test("Without one of the folders what the other tells, without both the numbers")
    func partly() throws {
        try withLogs(pods: [], containers: ["web-0_shop_nginx-\(id).log"]) { names, _ in
            let pod = names.pod(ofCgroup: cgroup)
            #expect(pod?.description == "pod web-0 of shop, container nginx")
        }
        try withLogs(pods: ["shop_web-0_\(uid)"], containers: []) { names, _ in
            let pod = names.pod(ofCgroup: cgroup)
            #expect(pod?.description == "pod web-0 of shop, container 4f2b8a904f2b")
        }
        for logs in [nil, "/no/such/folder"] {
            var places = PodNames.Places()
            places.logs = logs
            #expect(PodNames(places).pod(ofCgroup: cgroup)?.name == nil)
            #expect(PodNames(places).pod(ofCgroup: cgroup)?.uid == uid)
        }
    }

    @Test("What Kubernetes would not name so is nobody's name")
    func strangers() throws {
        try withLogs(
            pods: ["shop_we\u{1b}[2Jb_\(uid)", "shop_\(uid)", "a_b_c_\(uid)", "Shop_web_\(uid)"],
            containers: [
                "web\u{202e}_shop_nginx-\(id).log", "web_shop_nginx\(id).log",
                "web_shop_-\(id).log",
                "web_shop_nginx-\(id)", "web_shop_nginx-\(id.dropLast()).log",
            ]
        ) { names, _ in
            let pod = try #require(names.pod(ofCgroup: cgroup))
            #expect(pod.name == nil && pod.namespace == nil && pod.container == nil)
        }
    }

    @Test("A pod that is new is found, one that is gone is remembered")
    func comingAndGoing() throws {
        try withLogs(pods: [], containers: []) { names, folder in
            #expect(names.pod(ofCgroup: cgroup)?.name == nil)
            #expect(mkdir("\(folder)/pods/shop_web-0_\(uid)", 0o755) == 0)
            #expect(eventually { names.pod(ofCgroup: cgroup)?.name == "web-0" })
            #expect(rmdir("\(folder)/pods/shop_web-0_\(uid)") == 0)
            #expect(names.pod(ofCgroup: cgroup)?.name == "web-0")
        }
    }
}
