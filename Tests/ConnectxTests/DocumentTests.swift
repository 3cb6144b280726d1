// SPDX-License-Identifier: Apache-2.0
// The Swift in the documents is compiled: every block of it stands, line by line, in a file of an
// Examples folder beside this one. (Less the imports at its top, and indented as may be.)

import Foundation
import Testing

@Suite struct DocumentTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func files(in folder: String, _ suffix: String) -> [String] {
        FileManager.default.enumerator(atPath: root.appending(path: folder).path)?
            .compactMap { $0 as? String }.filter { $0.hasSuffix(suffix) }
            .map { folder + "/" + $0 } ?? []
    }

    private static func lines(of file: String) throws -> [String] {
        try String(contentsOf: root.appending(path: file), encoding: .utf8)
            .components(separatedBy: "\n")
    }

    private static let documents =
        ["README.md"] + files(in: "Sources/Connectx/Connectx.docc", ".md").sorted()
    private static let examples = files(in: "Tests", ".swift").filter { $0.contains("/Examples/") }

    /// The blocks of Swift in a document. Those of a package's manifest begin with a dot:
    /// scripts/test-package has one like them.
    private static func blocks(of document: String) throws -> [[String]] {
        var blocks: [[String]] = []
        var block: [String]?
        for line in try lines(of: document) {
            if line == "```swift" {
                block = []
            } else if line == "```", let whole = block {
                blocks.append(whole)
                block = nil
            } else {
                block?.append(line)
            }
        }
        return blocks.filter { $0.first?.hasPrefix(".") == false }
    }

    private static func withoutImports(_ block: [String]) -> [String] {
        Array(block.drop { $0.isEmpty || $0.hasPrefix("import ") })
    }

    /// Whether the lines stand in a file, all indented alike.
    private static func contains(_ file: [String], _ block: [String]) -> Bool {
        file.indices.contains { start in
            guard start + block.count <= file.count else { return false }
            let indent = file[start].prefix { $0 == " " }
            return zip(file[start...], block).allSatisfy { line, wanted in
                line == (wanted.isEmpty ? "" : indent + wanted)
            }
        }
    }

    @Test(arguments: documents)
    func theSwiftOfADocumentIsCompiled(_ document: String) throws {
        let examples = try Self.examples.map { try Self.lines(of: $0) }
        for block in try Self.blocks(of: document) {
            let imports = block.filter { $0.hasPrefix("import ") }
            let isCompiled = examples.contains { file in
                Self.contains(file, Self.withoutImports(block))
                    && imports.allSatisfy { file.contains($0) }
            }
            #expect(isCompiled, "in no file of Examples:\n\(block.joined(separator: "\n"))")
        }
    }

    /// The program of the article on the lock is the one that Integration compiles and runs.
    @Test func theProgramOfTheLockIsTheExample() throws {
        let article = try Self.lines(of: "Sources/Connectx/Connectx.docc/TheLocksHole.md")
        let program = try Self.lines(of: "Sources/CConnectx/examples/lock-hole.c")
        let start = try #require(article.firstIndex(of: "```c")) + 1
        let end = try #require(article[start...].firstIndex(of: "```"))
        #expect(Array(article[start..<end]) == program.dropLast())
        #expect(end - start < 100)
    }

    @Test func thereAreBlocks() throws {
        #expect(try Self.blocks(of: "README.md").count == 1)
    }
}
