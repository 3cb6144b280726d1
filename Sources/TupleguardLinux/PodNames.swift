// SPDX-License-Identifier: Apache-2.0
// What pods are called, from the names of the folders that kubelet keeps their logs in.
//
// Neither kubelet's API nor the container runtime's socket is asked: one takes a token and a
// certificate, the other is as good as root on the node. To list two folders takes no more than a
// mount that is read-only, and the names have been these since CRI began (BuildPodLogsDirectory and
// logSymlink of kubelet's kuberuntime).

import Glibc
import Synchronization

/// Pods by their cgroups, with names where kubelet's folders can be read.
package final class PodNames: Sendable {
    /// Where kubelet has what is its.
    package struct Places: Hashable, Sendable {
        /// The cgroup that its cgroups are in.
        package var cgroup = "/"
        /// The folder that has "pods" and "containers"; nil for UIDs alone.
        package var logs: String? = "/var/log"

        package init() {}
    }

    /// Of this machine.
    package static let system = PodNames()

    private struct Names {
        let namespace: String
        let pod: String
        var container: String?
    }

    private struct Memory {
        var places: Places
        /// By UID of the pod, and by the container's id.
        var pods: [String: Names] = [:]
        var containers: [String: Names] = [:]
        /// When the folders were last read, by CLOCK_MONOTONIC, and when they had changed by then.
        var readAt: UInt64?
        var changes: [Int] = []
    }

    private let memory: Mutex<Memory>

    /// So many of each are remembered, those that are gone too.
    package static let limit = 8192
    /// In nanoseconds: folders that have not changed are read again after this long, since what
    /// changes right after a look may have the same time.
    private static let pause: UInt64 = 1_000_000_000

    package init(_ places: Places = Places()) {
        memory = Mutex(Memory(places: places))
    }

    /// Looks elsewhere from now on.
    package func use(_ places: Places) {
        memory.withLock { $0 = Memory(places: places) }
    }

    /// The pod that a cgroup belongs to; nil for one that is of no pod.
    package func pod(ofCgroup path: String) -> Pod? {
        memory.withLock { memory in
            guard var pod = Pod(ofCgroup: path, below: memory.places.cgroup) else { return nil }
            if !Self.isKnown(pod, memory) { Self.readAgain(&memory) }
            let names = pod.containerId.flatMap { memory.containers[$0] }
            let ofPod = memory.pods[pod.uid] ?? names
            pod.namespace = ofPod?.namespace
            pod.name = ofPod?.pod
            pod.container = names?.container
            return pod
        }
    }

    private static func isKnown(_ pod: Pod, _ memory: Memory) -> Bool {
        memory.pods[pod.uid] != nil
            && (pod.containerId.map { memory.containers[$0] != nil } ?? true)
    }

    private static func readAgain(_ memory: inout Memory) {
        guard let folder = memory.places.logs else { return }
        let now = KernelClock.monotonic
        let changes = ["/pods", "/containers"].map { changeTime(of: folder + $0) }
        if let readAt = memory.readAt, now - readAt < pause, changes == memory.changes { return }
        (memory.readAt, memory.changes) = (now, changes)
        if memory.pods.count > limit { memory.pods = [:] }
        if memory.containers.count > limit { memory.containers = [:] }
        for name in names(in: folder + "/pods").prefix(limit) {
            if let (uid, names) = pod(ofFolder: name) { memory.pods[uid] = names }
        }
        for name in names(in: folder + "/containers").prefix(limit) {
            if let (id, names) = container(ofLink: name) { memory.containers[id] = names }
        }
    }

    /// In nanoseconds; 0 where there is no such folder.
    private static func changeTime(of folder: String) -> Int {
        var status = stat()
        guard stat(folder, &status) == 0 else { return 0 }
        return status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    }

    // MARK: - Names

    /// "shop_web-0_0f0c7e1c-5c06-4a2b-9a3e-1d2f3a4b5c6d"
    private static func pod(ofFolder name: String) -> (uid: String, Names)? {
        let parts = name.split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count == 3, let namespace = valid(parts[0]), let pod = valid(parts[1]) else {
            return nil
        }
        return (String(parts[2]), Names(namespace: namespace, pod: pod, container: nil))
    }

    /// "web-0_shop_nginx-4f2b8a90….log"
    private static func container(ofLink name: String) -> (id: String, Names)? {
        let parts = name.split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count == 3, let pod = valid(parts[0]), let namespace = valid(parts[1]),
            parts[2].hasSuffix(".log")
        else { return nil }
        let rest = parts[2].dropLast(".log".count)
        let id = rest.suffix(64)
        let container = rest.dropLast(64)
        guard Pod.isContainerID(id), container.last == "-", let name = valid(container.dropLast())
        else { return nil }
        return (String(id), Names(namespace: namespace, pod: pod, container: name))
    }

    /// A name as Kubernetes has them (RFC 1123); nil for anything else, which is not kubelet's.
    private static func valid(_ name: Substring) -> String? {
        let isSound = name.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
        }
        return isSound && (1...253).contains(name.utf8.count) ? String(name) : nil
    }
}

/// A cgroup as people are shown it: the pod that it is of, or else its path, fit for a terminal.
package func placeName(ofCgroup path: String) -> String {
    PodNames.system.pod(ofCgroup: path)?.description ?? printable(path)
}
