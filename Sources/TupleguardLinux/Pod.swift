// SPDX-License-Identifier: Apache-2.0
// Which pod of Kubernetes a cgroup belongs to, by the names that kubelet and runtimes give.

/// A pod, and the container in it, as far as their cgroup and kubelet's folders tell.
package struct Pod: Codable, Hashable, Sendable, CustomStringConvertible {
    package let uid: String
    /// 64 hexadecimal digits; nil for the pod's own cgroup, and for names of other runtimes.
    package let containerId: String?
    /// The pod's namespace and its name in it; nil where only the UID is known.
    package var namespace: String?
    package var name: String?
    package var container: String?

    /// "pod web-0 of shop, container nginx"; "pod 0f0c7e1c-…, container 4f2b8a90c1d3" by numbers.
    package var description: String {
        let pod = name.map { "pod \($0)" + (namespace.map { " of \($0)" } ?? "") } ?? "pod \(uid)"
        let container = container ?? containerId.map { String($0.prefix(12)) }
        return pod + (container.map { ", container \($0)" } ?? "")
    }

    // MARK: - By a cgroup

    /// Of a cgroup's path; nil for one that is of no pod.
    ///
    /// With systemd as the driver "/kubepods.slice/kubepods-burstable.slice/
    /// kubepods-burstable-pod0f0c7e1c_….slice/cri-containerd-4f2b….scope", with cgroupfs
    /// "/kubepods/burstable/pod0f0c7e1c-…/4f2b…": what is below a container is its own, and says
    /// nothing. Only what begins where kubelet has its cgroups counts: whoever has a cgroup
    /// delegated may call those below it as they like.
    ///
    /// - Parameter root: the cgroup that kubelet keeps its own in (--cgroup-root), "/" most often.
    package init?(ofCgroup path: String, below root: String = "/") {
        var parts = path.split(separator: "/")[...]
        let rootParts = root.split(separator: "/")
        guard parts.starts(with: rootParts) else { return nil }
        parts = parts.dropFirst(rootParts.count)
        // Where kind and others have it.
        if parts.first == "kubelet" || parts.first == "kubelet.slice" { parts.removeFirst() }
        guard let uid = Self.takeUID(&parts) else { return nil }
        self.uid = uid
        containerId = parts.first.flatMap(Self.containerID)
    }

    private static let classes = ["burstable", "besteffort"]

    private static func takeUID(_ parts: inout ArraySlice<Substring>) -> String? {
        guard let top = parts.popFirst() else { return nil }
        if top == "kubepods" {
            if let next = parts.first, classes.contains(String(next)) { parts.removeFirst() }
            guard let pod = parts.popFirst(), pod.hasPrefix("pod") else { return nil }
            return valid(pod.dropFirst("pod".count))
        }
        // A slice has the names of those above it in its own (systemd.slice(5)).
        guard var stem = slice(top), stem == "kubepods" || stem.hasSuffix("-kubepods") else {
            return nil
        }
        if let next = parts.first.flatMap(slice),
            classes.contains(where: { next == "\(stem)-\($0)" })
        {
            stem = next
            parts.removeFirst()
        }
        guard let pod = parts.popFirst().flatMap(slice), pod.hasPrefix("\(stem)-pod") else {
            return nil
        }
        let uid = pod.dropFirst(stem.count + "-pod".count)
        return valid(uid.map { $0 == "_" ? "-" : $0 })
    }

    private static func slice(_ name: Substring) -> Substring? {
        name.hasSuffix(".slice") ? name.dropLast(".slice".count) : nil
    }

    /// A UUID, or of a static pod a hash of 32 digits.
    private static func valid(_ uid: some Collection<Character>) -> String? {
        let groups = uid.split(separator: "-", omittingEmptySubsequences: false).map(\.count)
        guard groups == [8, 4, 4, 4, 12] || groups == [32],
            uid.allSatisfy({ $0 == "-" || isHexadecimal($0) })
        else { return nil }
        return String(uid)
    }

    /// Of containerd, CRI-O and cri-dockerd; the first two name their scopes, and cgroupfs has the
    /// bare digits.
    private static func containerID(_ part: Substring) -> String? {
        let name = part.hasSuffix(".scope") ? part.dropLast(".scope".count) : part
        for prefix in ["cri-containerd-", "crio-", "docker-", ""] where name.hasPrefix(prefix) {
            let id = name.dropFirst(prefix.count)
            if isContainerID(id) { return String(id) }
        }
        return nil
    }

    static func isContainerID(_ text: some StringProtocol) -> Bool {
        text.count == 64 && text.allSatisfy(isHexadecimal)
    }

    private static func isHexadecimal(_ character: Character) -> Bool {
        // A digit with an accent, or with what nobody sees behind it, is between others too.
        character.isASCII
            && (("0"..."9").contains(character) || ("a"..."f").contains(character))
    }
}
