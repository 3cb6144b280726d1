// SPDX-License-Identifier: Apache-2.0
// What the command makes of its arguments.

import ArgumentParser
import Testing

@testable import tupleguard

/// The command that these arguments ask for, split at spaces.
func parse<Command>(_: Command.Type, _ line: String) throws -> Command {
    let command = try Tupleguard.parseAsRoot(line.split(separator: " ").map(String.init))
    return try #require(command as? Command, "\(line) is a \(type(of: command))")
}

/// What is said of arguments that make no sense; nil when they do make sense.
func complaint(_ arguments: [String]) -> (message: String, status: Int32)? {
    do {
        _ = try Tupleguard.parseAsRoot(arguments)
        return nil
    } catch {
        return (Tupleguard.message(for: error), Tupleguard.exitCode(for: error).rawValue)
    }
}

/// Expects these arguments to be refused with status 64, in words that contain all of `parts`.
func expectRefusal(
    _ arguments: [String], _ parts: String..., sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let complaint = complaint(arguments) else {
        Issue.record("\(arguments) was accepted", sourceLocation: sourceLocation)
        return
    }
    #expect(complaint.status == 64, sourceLocation: sourceLocation)
    for part in parts {
        #expect(
            complaint.message.contains(part), "\(part) is not in: \(complaint.message)",
            sourceLocation: sourceLocation)
    }
}

func expectRefusal(
    _ line: String, _ part: String, sourceLocation: SourceLocation = #_sourceLocation
) {
    expectRefusal(
        line.split(separator: " ").map(String.init), part, sourceLocation: sourceLocation)
}
