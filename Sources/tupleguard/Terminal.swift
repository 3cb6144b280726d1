// SPDX-License-Identifier: Apache-2.0
// What people see: tables that fit the terminal, colour only there, times and amounts.

import Glibc
import TupleguardAgent
import TupleguardKernel
import TupleguardLinux
import TupleguardSockets

enum Terminal {
    /// Whether standard output is a terminal that may be coloured (no-color.org).
    static let hasColour = isatty(STDOUT_FILENO) == 1 && environment("NO_COLOR") == nil

    /// Columns of the terminal; nil when standard output is none, and lines may be as long as they like.
    static var width: Int? {
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        var size = winsize()
        return ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
            ? Int(size.ws_col) : 80
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

/// A table with a heading. The widest of the flexible columns gives way when the terminal is narrow.
struct Table {
    enum Alignment { case left, right }

    struct Column {
        let title: String
        var alignment = Alignment.left
        var isFlexible = false
    }

    let columns: [Column]
    var rows: [[String]] = []

    func lines(width: Int?) -> [String] {
        var widths = columns.indices.map { index in
            max(columns[index].title.count, rows.map { $0[index].count }.max() ?? 0)
        }
        if let width {
            let flexible = columns.indices.filter { columns[$0].isFlexible }
            while widths.reduce(0, +) + 2 * (columns.count - 1) > width,
                let widest = flexible.max(by: { widths[$0] < widths[$1] }), widths[widest] > 8
            {
                widths[widest] -= 1
            }
        }
        func line(_ cells: [String]) -> String {
            let padded = columns.indices.map { index in
                let cell = Terminal.fit(printable(cells[index]), widths[index])
                let space = String(repeating: " ", count: widths[index] - cell.count)
                return columns[index].alignment == .left ? cell + space : space + cell
            }
            var text = padded.joined(separator: "  ")
            while text.last == " " { text.removeLast() }
            return text
        }
        return [line(columns.map(\.title))] + rows.map(line)
    }

    func print() {
        for (index, line) in lines(width: Terminal.width).enumerated() {
            Swift.print(index == 0 ? Terminal.bold(line) : line)
        }
    }
}

/// Nanoseconds since 1970 as people read a clock: local time, to the second.
func clock(_ nanoseconds: UInt64) -> String {
    var seconds = time_t(nanoseconds / 1_000_000_000)
    var fields = tm()
    localtime_r(&seconds, &fields)
    var buffer = [CChar](repeating: 0, count: 32)
    strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &fields)
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// "5s", "3m", "2h", "9d": how long ago.
func age(_ nanoseconds: UInt64) -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let seconds = max(0, now.tv_sec - Int(nanoseconds / 1_000_000_000))
    switch seconds {
    case ..<120: return "\(seconds)s"
    case ..<7200: return "\(seconds / 60)m"
    case ..<172_800: return "\(seconds / 3600)h"
    default: return "\(seconds / 86_400)d"
    }
}
