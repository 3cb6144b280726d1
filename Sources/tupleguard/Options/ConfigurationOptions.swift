// SPDX-License-Identifier: Apache-2.0
// Which configuration file there is to read.

import ArgumentParser
import Glibc

struct ConfigurationOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What options leave open is read here. (default: \(ConfigurationFile.defaultPath))",
            valueName: "file"))
    var config: String?

    /// The status for a mistake in the file: EX_CONFIG of sysexits.h.
    static let mistaken: Int32 = 78

    /// What the file says. The usual one need not exist.
    ///
    /// - Throws: `ConfigurationError`.
    func read() throws -> AgentSettings {
        if let path = config ?? environment("TUPLEGUARD_CONFIG") {
            return try ConfigurationFile.read(path)
        }
        let path = ConfigurationFile.defaultPath
        if access(path, F_OK) != 0 && errno == ENOENT { return try AgentSettings.parse([]) }
        return try ConfigurationFile.read(path)
    }

    /// Runs `body`, and ends the command with a status of its own when the file is wrong.
    func endingForMistakes<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let error as ConfigurationError {
            Terminal.note("Error: \(error)")
            throw ExitCode(Self.mistaken)
        }
    }
}
