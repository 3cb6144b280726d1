// SPDX-License-Identifier: Apache-2.0
// Guards of the lab's own, which nobody else's commands see.

import Glibc
import TupleguardKernel
import TupleguardLinux

/// The folders in which guards of the lab are pinned, one for each process.
enum LabState {
    private static let parent = "/sys/fs/bpf"
    private static let prefix = "tupleguard-lab-"

    static func of(process: Int32) -> GuardState {
        GuardState(folder: "\(parent)/\(prefix)\(process)")
    }

    static func remove(_ state: GuardState) {
        if access(state.folder, F_OK) == 0 { try? state.detachAll() }
    }

    /// What labs left behind that were killed together with their keepers.
    static func removeAbandoned() {
        for name in names(in: parent) where name.hasPrefix(prefix) {
            guard let process = Int32(name.dropFirst(prefix.count)), !isRunning(process)
            else { continue }
            remove(of(process: process))
            TemporaryCgroup.removeMade(by: process)
        }
    }
}
