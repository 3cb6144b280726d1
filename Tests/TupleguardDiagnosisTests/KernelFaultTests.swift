// SPDX-License-Identifier: Apache-2.0
// What a fault of the kernel rests on: a trial, or its version where none could be made.

import Testing
import TupleguardLinux

@testable import TupleguardHostSurvey

@Suite struct KernelFaultTests {
    @Test(
        arguments: [
            (true, true, .measured), (true, false, .measured), (false, true, nil),
            (false, false, nil), (nil, true, .version), (nil, false, nil),
        ] as [(Bool?, Bool, KernelFaults.Basis?)])
    func aTrialCountsForMoreThanAVersion(
        _ measured: Bool?, _ expected: Bool, _ basis: KernelFaults.Basis?
    ) {
        #expect(KernelFaults.basis(measured: measured, expected: expected) == basis)
    }

    @Test(
        arguments: [
            ("6.1.0-28-amd64", false, true), ("6.12.117", false, true), ("6.13", true, true),
            ("6.17.9", true, true), ("6.18.0", true, false), ("6.18.44", true, false),
            ("6.19.1", false, false), ("7.2.1", false, false),
        ])
    func versions(_ release: String, _ isHashStale: Bool, _ arePortsClosed: Bool) throws {
        let kernel = try #require(KernelVersion(release: release))
        #expect(KernelFaults.mayHaveStaleHash(kernel) == isHashStale)
        #expect(KernelFaults.mayKeepPortsClosed(kernel) == arePortsClosed)
    }
}
