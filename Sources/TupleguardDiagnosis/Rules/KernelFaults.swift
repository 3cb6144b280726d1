// SPDX-License-Identifier: Apache-2.0
// Known faults of the kernel that runs.

import TupleguardHostSurvey
import TupleguardLinux

extension Evidence {
    func kernelFindings() -> [Finding] {
        let release = printable(KernelVersion.runningRelease)
        return [
            kernelFaults.staleTupleHash.map { staleTupleHash($0, release) },
            kernelFaults.closedPorts.map { closedPorts($0, release) },
        ].compactMap(\.self)
    }

    private func staleTupleHash(_ basis: KernelFaults.Basis, _ release: String) -> Finding {
        Finding(
            .info, .staleTupleHash,
            "Linux \(release) files a UDP socket under its first destination, also when it is connected to another",
            notes: [
                basisNote(basis),
                "then each packet for it is compared with every socket of its address and port, and any other socket with its 4-tuple gets its packets",
            ],
            remedies: [
                .init("Make a new socket for each destination instead of connecting one again."),
                .init("Or use a kernel without the fault, such as Linux 7.2."),
            ])
    }

    private func closedPorts(_ basis: KernelFaults.Basis, _ release: String) -> Finding {
        Finding(
            .info, .closedPorts,
            "Linux \(release) keeps a TCP port from connect() after a bind() to it has gone, until all other sockets on it have",
            notes: [
                basisNote(basis),
                "the port is lost to every destination meanwhile, and no socket is to be seen that would hold it",
            ],
            remedies: [
                .init(
                    "Let programs that bind only to choose their address set this before bind():",
                    Self.bindWithoutPort),
                .init("Or use a kernel without the fault: Linux 6.18 or later."),
            ])
    }

    private func basisNote(_ basis: KernelFaults.Basis) -> String {
        switch basis {
        case .measured: "it showed when it was tried just now, with sockets of our own"
        case .version:
            "this is known of its version and could not be tried; a distribution may have mended it"
        }
    }
}
