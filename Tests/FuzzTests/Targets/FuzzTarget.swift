// SPDX-License-Identifier: Apache-2.0
// What is fuzzed: each target takes any bytes, gives them to code that parses what others wrote,
// and checks what must hold whatever they are.

/// One thing to fuzz: the program `tupleguard-fuzz` makes up inputs for it, and the tests give it
/// those that are kept in the folder Corpus.
struct FuzzTarget: Sendable {
    /// Also its folder's.
    let name: String
    /// Whether the parser took the input for what it is to read.
    ///
    /// - Throws: `Unsound` when something does not hold that must.
    let accepts: @Sendable (UnsafeRawBufferPointer) throws -> Bool

    static let all: [FuzzTarget] = [
        FuzzTarget(name: "agent-answers", accepts: acceptsAgentAnswer),
        FuzzTarget(name: "bind-addresses", accepts: acceptsBindAddress),
        FuzzTarget(name: "configuration", accepts: acceptsConfiguration),
        FuzzTarget(name: "endpoints", accepts: acceptsEndpoints),
        FuzzTarget(name: "http", accepts: acceptsHTTP),
        FuzzTarget(name: "labels", accepts: acceptsLabels),
        FuzzTarget(name: "maps", accepts: acceptsMapValue),
        FuzzTarget(name: "names", accepts: acceptsName),
        FuzzTarget(name: "netlink", accepts: acceptsNetlink),
        FuzzTarget(name: "notices", accepts: acceptsNotice),
        FuzzTarget(name: "proc", accepts: acceptsProcFile),
        FuzzTarget(name: "settings", accepts: acceptsSettings),
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
