// SPDX-License-Identifier: Apache-2.0
// Descriptor limits that are nearly reached.

import Glibc
import Testing
import TupleguardLinux
import TupleguardSockets
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests {
    @Suite struct DoctorDescriptors: DoctorSuite {
        @Test(arguments: [(80, 45, nil), (80, 70, "warning"), (80, 77, "critical")])
        func descriptorLimits(_ limit: Int, _ open: Int, _ severity: String?) throws {
            try Sandbox.run { sandbox in
                let process = try sandbox.condition(
                    """
                    resource.setrlimit(resource.RLIMIT_NOFILE, (\(limit), 500))
                    while len(os.listdir('/proc/self/fd')) - 1 < \(open):
                        keep.append(open('/dev/null'))
                    """)
                try ending(process) {
                    let finding = try diagnose(sandbox).findings("descriptors").first
                    #expect(finding?["severity"] as? String == severity)
                    guard let finding else { return }
                    #expect(pids(finding) == [process.pid])
                    #expect(number(finding, "open") == open)
                    #expect(number(finding, "limit") == limit)
                    #expect(number(finding, "hard_limit") == 500)
                }
            }
        }

        /// `--namespace self` leaves out the processes of others.
        @Test func descriptorLimitsOfAnotherNamespace() throws {
            try Sandbox.run { sandbox in
                try Sandbox.run { other in
                    let process = try other.condition(
                        """
                        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
                        while len(os.listdir('/proc/self/fd')) - 1 < 70:
                            keep.append(open('/dev/null'))
                        """)
                    try ending(process) {
                        let (theirs, ours) = (try diagnose(other), try diagnose(sandbox))
                        #expect(theirs.kinds == ["descriptors"])
                        #expect(ours.kinds == [])
                    }
                }
            }
        }
    }
}
