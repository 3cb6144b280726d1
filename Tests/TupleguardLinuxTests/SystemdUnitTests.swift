// SPDX-License-Identifier: Apache-2.0
// Units by their cgroups.

import Testing

@testable import TupleguardLinux

struct SystemdUnitTests {
    @Test(
        "The unit that a cgroup is of",
        arguments: [
            ("/system.slice/web1.service", "web1.service"),
            ("/system.slice/web1.service/worker/deeper", "web1.service"),
            ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope",
                "user@1000.service"
            ),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
            ("/init.scope", "init.scope"),
            ("/system.slice/_cpu.service", "cpu.service"),
            ("/system.slice/boot.mount", "boot.mount"),
            ("/", nil), ("/system.slice", nil), ("", nil), ("/proxy", nil),
            ("/proxy/x.service", nil), ("/system.slice/.service", nil),
        ] as [(String, String?)])
    func names(path: String, unit: String?) {
        #expect(SystemdUnit.name(ofCgroup: path) == unit)
    }
}
