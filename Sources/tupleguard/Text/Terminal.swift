// SPDX-License-Identifier: Apache-2.0
// The terminal: its size, its colours, what goes to standard error.

import Glibc

enum Terminal {
    /// Whether standard output is a terminal that may be coloured (no-color.org).
    static let hasColour = isatty(STDOUT_FILENO) == 1 && environment("NO_COLOR") == nil

    /// Whether what is written is taken for UTF-8, by the locale of whoever reads it.
    static let hasBlocks: Bool = {
        setlocale(LC_CTYPE, "")
        defer { setlocale(LC_CTYPE, "C") }
        return nl_langinfo(nl_item(CODESET)).map { String(cString: $0) } == "UTF-8"
    }()

    /// Columns of the terminal; nil when standard output is none, and lines may be as long as they
    /// like.
    static var width: Int? { isatty(STDOUT_FILENO) == 1 ? size.columns : nil }

    /// What the terminal on standard output says of its size; 80 columns, 24 rows where it doesn't.
    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        _ = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size)
        return (size.ws_col > 0 ? Int(size.ws_col) : 80, size.ws_row > 0 ? Int(size.ws_row) : 24)
    }

    static func bold(_ text: String) -> String { hasColour ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
    static func red(_ text: String) -> String { hasColour ? "\u{1B}[31m\(text)\u{1B}[0m" : text }
    static func green(_ text: String) -> String { hasColour ? "\u{1B}[32m\(text)\u{1B}[0m" : text }

    static func clear() {
        if isatty(STDOUT_FILENO) == 1 { print("\u{1B}[H\u{1B}[2J", terminator: "") }
    }

    /// To standard error, so that a command's own output stays clean.
    static func note(_ text: String) {
        _ = (text + "\n").withCString { write(STDERR_FILENO, $0, strlen($0)) }
    }

    /// Shortens to so many columns, with "…" for what is left out.
    static func fit(_ text: String, _ width: Int) -> String {
        text.count <= width ? text : String(text.prefix(max(0, width - 1))) + "…"
    }
}
