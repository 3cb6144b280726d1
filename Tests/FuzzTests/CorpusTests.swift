// SPDX-License-Identifier: Apache-2.0
// Every input that the fuzzers keep: those that lead to a part of a parser each, and those that it
// once failed for.

import Glibc
import Testing
import TupleguardLinux

struct CorpusTests {
    private static let corpus =
        String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/")!)) + "/Corpus"

    @Test("Every kept input is parsed soundly", arguments: FuzzTarget.all.map(\.name))
    func corpus(_ name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let folder = "\(Self.corpus)/\(name)"
        let files = names(in: folder)
        var accepted = 0
        for file in files {
            let input = try #require(bytes(of: "\(folder)/\(file)"))
            #expect(throws: Never.self, "\(folder)/\(file)") {
                if try input.withUnsafeBytes(target.accepts) { accepted += 1 }
            }
        }
        // Otherwise nothing but the first check was tried.
        #expect(accepted > 0 && accepted < files.count)
    }

    @Test("Each folder of the corpus is a target's")
    func folders() {
        #expect(names(in: Self.corpus).sorted() == FuzzTarget.all.map(\.name).sorted())
    }
}
