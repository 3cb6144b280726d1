// SPDX-License-Identifier: Apache-2.0
// The configuration file: a line "option = value" for each option, by its long name.
//
// Read here rather than by swift-configuration, which is asked for one key at a time and so can
// name neither the line of a mistake nor a key that nobody asks for.

import ArgumentParser
import Glibc
import TupleguardLinux
import TupleguardSockets

/// What is wrong with a configuration file, and where.
struct ConfigurationError: Error, Equatable, CustomStringConvertible {
    let path: String
    /// From 1; nil where it is the file as a whole.
    let line: Int?
    let problem: String

    var description: String {
        printable("\(path)\(line.map { ":\($0)" } ?? ""): \(problem)")
    }
}

enum ConfigurationFile {
    static let defaultPath = "/etc/tupleguard/tupleguard.conf"
    /// In bytes. What is longer is some other file.
    static let longest = 65_536

    /// How the values of an option are written.
    private enum Kind {
        case once
        case severalTimes
        /// yes or no
        case flag
    }

    /// Every option that the file may have: those of `AgentSettings`.
    private static let options: [String: Kind] = [
        "cgroup": .severalTimes, "sweep-interval": .once, "on-shadow": .once,
        "on-detach": .once, "detach-on-exit": .flag, "metrics": .severalTimes,
        "mode": .once, "errno": .once, "when-full": .once, "look-up": .once, "discover": .once,
        "pod-labels": .flag, "pod-logs": .once, "pod-cgroup": .once,
        "outsiders": .once, "when-exhausted": .once, "table-size": .once, "strict": .flag,
        "ports": .once,
        "max-connections": .once,
    ]

    static var names: [String] { options.keys.sorted() }

    /// - Throws: `ConfigurationError`.
    static func read(_ path: String) throws -> AgentSettings {
        try parse(bytes(of: path), path: path)
    }

    private static func bytes(of path: String) throws -> [UInt8] {
        do {
            // Nobody need be at the other end of a FIFO.
            let file = try OwnedDescriptor(path: path, flags: O_RDONLY | O_NONBLOCK)
            var bytes = [UInt8](repeating: 0, count: longest + 1)
            var length = 0
            while length < bytes.count {
                let count = try bytes.withUnsafeMutableBytes { buffer in
                    try Errno.check {
                        Glibc.read(file.raw, buffer.baseAddress! + length, longest + 1 - length)
                    }
                }
                if count == 0 { return Array(bytes[..<length]) }
                length += count
            }
        } catch let error as Errno {
            throw ConfigurationError(path: path, line: nil, problem: "cannot read it: \(error)")
        }
        throw ConfigurationError(
            path: path, line: nil, problem: "longer than \(longest) bytes: is it the right file?")
    }

    /// What an option was given, and where.
    private struct Entry {
        let line: Int
        let name: String
        let value: String
        let argument: String
    }

    /// Reads the lines, then what they say together: a file that is right is given to the option
    /// parser once, however many lines it has.
    static func parse(_ bytes: [UInt8], path: String) throws -> AgentSettings {
        var entries: [Entry] = []
        var lineOfName: [String: Int] = [:]
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (number, line) in zip(1..., lines) {
            do {
                guard let entry = try entry(in: line, number: number) else { continue }
                if let earlier = lineOfName[entry.name], options[entry.name] != .severalTimes {
                    throw Mistake(
                        description: "\(entry.name) is given a second time; line \(earlier) has it")
                }
                lineOfName[entry.name] = number
                entries.append(entry)
            } catch let mistake as Mistake {
                throw ConfigurationError(path: path, line: number, problem: mistake.description)
            }
        }
        return try all(entries, path: path)
    }

    /// What is wrong is said of the first line that cannot be, alone or after those before it.
    /// That line is looked for by halves: no further line makes right what is wrong.
    private static func all(_ entries: [Entry], path: String) throws -> AgentSettings {
        do throws(Mistake) {
            return try settings(entries[...])
        } catch {
            var (right, wrong) = (0, entries.count)
            while wrong - right > 1 {
                let middle = (right + wrong) / 2
                if mistake(in: entries[..<middle]) == nil { right = middle } else { wrong = middle }
            }
            // Alone first, so that what is wrong with one line is said of that line.
            let first = mistake(in: entries[right..<wrong]) ?? mistake(in: entries[..<wrong])
            throw ConfigurationError(
                path: path, line: entries[right...].first?.line,
                problem: (first ?? error).description)
        }
    }

    private static func mistake(in entries: ArraySlice<Entry>) -> Mistake? {
        do throws(Mistake) {
            _ = try settings(entries)
            return nil
        } catch {
            return error
        }
    }

    private struct Mistake: Error {
        let description: String
    }

    /// Nil for a line that says nothing.
    private static func entry(in line: ArraySlice<UInt8>, number: Int) throws -> Entry? {
        guard let text = String(validating: line, as: UTF8.self) else {
            throw Mistake(description: "not UTF-8")
        }
        let trimmed = text.trimmed
        if trimmed.isEmpty || trimmed.hasPrefix("#") { return nil }
        if trimmed.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
            throw Mistake(description: "a control character is in it")
        }
        let parts = trimmed.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw Mistake(
                description: "“\(trimmed)” is not of the form: option = value")
        }
        let (name, value) = (String(parts[0]).trimmed, String(parts[1]).trimmed)
        guard let kind = options[name] else {
            throw Mistake(
                description:
                    "there is no option “\(name)”; there are \(names.joined(separator: ", "))")
        }
        return Entry(
            line: number, name: name, value: value, argument: try argument(name, value, kind))
    }

    /// The option as the command line would have it.
    private static func argument(_ name: String, _ value: String, _ kind: Kind) throws -> String {
        guard kind == .flag else { return "--\(name)=\(value)" }
        switch value {
        case "yes": return "--\(name)"
        case "no": return "--no-\(name)"
        default: throw Mistake(description: "\(name) = \(value): write yes or no")
        }
    }

    private static func settings(_ entries: ArraySlice<Entry>) throws(Mistake) -> AgentSettings {
        do {
            return try AgentSettings.parse(entries.map(\.argument))
        } catch {
            throw Mistake(description: AgentSettings.message(for: error))
        }
    }
}

extension String {
    /// Without white space at both ends.
    fileprivate var trimmed: String {
        let isSpace = { (character: Character) in character.isWhitespace }
        return String(drop(while: isSpace).reversed().drop(while: isSpace).reversed())
    }
}
