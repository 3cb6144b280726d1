// SPDX-License-Identifier: Apache-2.0
// A host that nearly has all the open files that it may have.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    func hostFilesFinding() -> [Finding] {
        guard let files else { return [] }
        let filling = Filling(used: files.open, possible: files.limit)
        guard let severity = Self.descriptorSeverity(filling) else { return [] }
        return [
            Finding(
                severity, .hostFiles,
                "the host has \(percent(filling.usage)) of its files open: at the limit everybody gets ENFILE",
                numbers: ["open": files.open, "limit": files.limit], usage: filling.usage,
                notes: ["\(grouped(files.open)) of \(grouped(files.limit)) (fs.file-nr)"],
                remedies: [.init("Raise it.", "sysctl -w fs.file-max=\(files.limit * 4)")])
        ]
    }
}
