// SPDX-License-Identifier: Apache-2.0
// The C library, built once in a test run, for the tests that use it as its users do.
//
// With TUPLEGUARD_TEST_LIBRARY=FOLDER it is one that scripts/connectx-library has made before.

import Foundation
import Glibc

package enum ConnectxLibrary {
    /// libconnectx.so, in a temporary folder that goes when the tests end.
    package static var path: String {
        get throws { try folder + "/lib/libconnectx.so" }
    }

    /// What scripts/connectx-library made: lib, include, share.
    package static var folder: String {
        get throws { try built.get() }
    }

    package struct BuildFailure: Error, CustomStringConvertible {
        package let description: String
    }

    private static let output = FileManager.default.temporaryDirectory
        .appending(path: "tupleguard-test-library-\(getpid())").path()

    private static let built: Result<String, any Error> = Result {
        if let folder = ProcessInfo.processInfo.environment["TUPLEGUARD_TEST_LIBRARY"] {
            guard access(folder + "/lib/libconnectx.so", R_OK) == 0 else {
                throw BuildFailure(description: "TUPLEGUARD_TEST_LIBRARY: no library in \(folder)")
            }
            return folder
        }
        let project = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let script = project.appending(path: "scripts/connectx-library").path()
        atexit { try? FileManager.default.removeItem(atPath: ConnectxLibrary.output) }
        let outcome = try RunningProgram(
            ["/bin/sh", script, output], environment: ProcessInfo.processInfo.environment
        ).wait()
        guard outcome.status == 0 else {
            throw BuildFailure(description: "\(script) failed: \(outcome.output)\(outcome.errors)")
        }
        return output
    }
}
