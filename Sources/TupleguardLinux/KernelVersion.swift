// SPDX-License-Identifier: Apache-2.0
// Which kernel runs.

import Glibc

/// The first three numbers of a kernel's release.
package struct KernelVersion: Comparable, Sendable {
    private let numbers: [Int]

    package init(_ major: Int, _ minor: Int, _ patch: Int = 0) {
        numbers = [major, minor, patch]
    }

    /// Of "6.1.0-28-amd64"; nil when it does not begin with two numbers.
    package init?(release: String) {
        let numbers = release.prefix { $0 != "-" }.split(separator: ".").prefix(3).map {
            Int($0.prefix { $0.isASCII && $0.isNumber })
        }
        guard numbers.count >= 2, let major = numbers[0], let minor = numbers[1] else { return nil }
        self.init(major, minor, numbers.count > 2 ? numbers[2] ?? 0 : 0)
    }

    /// As uname(2) gives it, such as "6.1.0-28-amd64".
    package static var runningRelease: String {
        var name = utsname()
        uname(&name)
        return withUnsafeBytes(of: &name.release) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    package static var running: KernelVersion? { KernelVersion(release: runningRelease) }

    package static func < (a: KernelVersion, b: KernelVersion) -> Bool {
        a.numbers.lexicographicallyPrecedes(b.numbers)
    }
}
