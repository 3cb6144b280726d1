// SPDX-License-Identifier: Apache-2.0
// HTML and SVG, put together so that no text can be taken for markup.

import TupleguardLinux

/// A piece of markup. Text comes into it through `Markup(_:)` and attributes only, which escape it.
package struct Markup: Sendable, CustomStringConvertible {
    package private(set) var description: String

    private init(unescaped: String) {
        description = unescaped
    }

    package static let empty = Markup(unescaped: "")
    package static let lineBreak = Markup(unescaped: "\n")

    /// Text as it is to be read: what controls the text around it becomes "?".
    package init(_ text: String) {
        description = escaped(text)
    }

    /// The pieces, one after the other.
    package init(_ pieces: some Sequence<Markup>) {
        description = pieces.map(\.description).joined()
    }

    /// Elements of HTML that have no end.
    private static let void: Set<String> = ["meta", "br"]

    package static func element(
        _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:],
        _ children: Markup...
    ) -> Markup {
        element(name, attributes, children)
    }

    package static func element(
        _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:],
        _ children: [Markup]
    ) -> Markup {
        var text = "<\(name)"
        for (attribute, value) in attributes { text += " \(attribute)=\"\(escaped(value))\"" }
        if void.contains("\(name)") { return Markup(unescaped: text + ">") }
        return Markup(
            unescaped: text + ">" + children.map(\.description).joined() + "</\(name)>")
    }

    /// A style sheet of this program's own. (What stands in one is not escaped by HTML's rules.)
    static func style(_ rules: String) -> Markup { Markup(unescaped: "<style>\(rules)</style>") }

    /// A page as a file: with what tells browsers that it is one of today's.
    static func document(_ html: Markup) -> String { "<!doctype html>\n\(html)\n" }
}

/// The text with the characters of markup replaced, and those that nobody sees as "?".
private func escaped(_ text: String) -> String {
    var result = ""
    for character in printable(text).unicodeScalars {
        switch character {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        case "'": result += "&#39;"
        // Neither HTML nor XML has these; a pair of them means "not a character".
        case "\u{FFFE}", "\u{FFFF}": result += "?"
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}
