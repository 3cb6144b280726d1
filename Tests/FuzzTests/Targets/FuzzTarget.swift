// SPDX-License-Identifier: Apache-2.0
// What is fuzzed: each target takes any bytes, gives them to code that parses what others wrote,
// and checks what must hold whatever they are.

/// One thing to fuzz: the program `tupleguard-fuzz` makes up inputs for it, and the tests give it
/// those that are kept in the folder Corpus.
struct FuzzTarget: Sendable {
    /// Also its folder's.
    let name: String
    /// In bytes: longer inputs lead nowhere that shorter ones do not, and take longer.
    let longest: Int
    /// Whether the parser took the input for what it is to read.
    ///
    /// - Throws: `Unsound` when something does not hold that must.
    let accepts: @Sendable (UnsafeRawBufferPointer) throws -> Bool

    static let all: [FuzzTarget] = [
        FuzzTarget(name: "agent-answers", longest: 1024, accepts: acceptsAgentAnswer),
        FuzzTarget(name: "bind-addresses", longest: 160, accepts: acceptsBindAddress),
        FuzzTarget(name: "configuration", longest: 512, accepts: acceptsConfiguration),
        FuzzTarget(name: "endpoints", longest: 160, accepts: acceptsEndpoints),
        FuzzTarget(name: "http", longest: 768, accepts: acceptsHTTP),
        FuzzTarget(name: "labels", longest: 512, accepts: acceptsLabels),
        FuzzTarget(name: "maps", longest: 256, accepts: acceptsMapValue),
        FuzzTarget(name: "names", longest: 128, accepts: acceptsName),
        FuzzTarget(name: "netlink", longest: 1024, accepts: acceptsNetlink),
        FuzzTarget(name: "notices", longest: 64, accepts: acceptsNotice),
        FuzzTarget(name: "proc", longest: 512, accepts: acceptsProcFile),
        FuzzTarget(name: "settings", longest: 512, accepts: acceptsSettings),
    ]
}

/// What ought to hold and does not.
struct Unsound: Error, CustomStringConvertible {
    let description: String
}

func require(_ isSo: Bool, _ what: @autoclosure () -> String) throws {
    if !isSo { throw Unsound(description: what()) }
}

/// The input as text, as files and sockets are read: what is not UTF-8 is replaced.
func text(_ input: UnsafeRawBufferPointer) -> String { String(decoding: input, as: UTF8.self) }
