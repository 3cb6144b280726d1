// SPDX-License-Identifier: Apache-2.0
// Tables that fit the terminal.

import TupleguardLinux

/// A table with a heading. The widest of the flexible columns gives way when the terminal is
/// narrow.
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
