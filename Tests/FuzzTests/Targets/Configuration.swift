// SPDX-License-Identifier: Apache-2.0
// The configuration file, which an administrator or a program of theirs wrote.

import TupleguardKernel
import TupleguardLinux

@testable import tupleguard

/// A file is taken over, or refused with a line of what is wrong with it.
@Sendable func acceptsConfiguration(_ input: UnsafeRawBufferPointer) throws -> Bool {
    do {
        let settings = try ConfigurationFile.parse(Array(input), path: "/etc/fuzz.conf")
        _ = try? settings.guardConfiguration(state: GuardState(folder: "/nowhere"))
        return true
    } catch let error as ConfigurationError {
        let lines = input.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        try require(
            error.line.map { (1...lines.count).contains($0) } ?? true, "there is no such line")
        try require(!error.problem.isEmpty, "refused without a reason")
        try require(
            !error.description.unicodeScalars.contains(where: \.isUnfitToBeShown),
            "an error unfit to be shown")
        return false
    }
}
