// SPDX-License-Identifier: Apache-2.0
// Which of systemd's units a cgroup belongs to.

/// Units, as systemd names the cgroups of them.
package enum SystemdUnit {
    private static let types = [".service", ".scope", ".socket", ".mount", ".swap"]

    /// The unit that a cgroup is, or that has it delegated: below slices, the first that is none
    /// (cg_path_get_unit in systemd). Nil where there is none.
    ///
    /// "/system.slice/web.service/worker" is of web.service.
    package static func name(ofCgroup path: String) -> String? {
        for part in path.split(separator: "/") where !part.hasSuffix(".slice") {
            // A name that means something else to the kernel has "_" before it (cg_escape).
            let name = part.hasPrefix("_") ? part.dropFirst() : part
            return types.contains { name.hasSuffix($0) && name.utf8.count > $0.utf8.count }
                ? String(name) : nil
        }
        return nil
    }
}
