// SPDX-License-Identifier: Apache-2.0
// Rows with a name each, and bars or intervals on one axis that all share.

/// What an axis measures. The title has the unit.
package struct Axis: Sendable {
    package let title: String
    package let kind: Scale.Kind
    /// Values that have to be on it, whether or not something is drawn there.
    package let including: [Double]

    package init(_ title: String, _ kind: Scale.Kind = .linear, including: [Double] = []) {
        self.title = title
        self.kind = kind
        self.including = including
    }

    func scale(_ values: [Double], from start: Double, to end: Double, pixelsForTick: Double)
        -> Scale
    {
        let count = Int(abs(end - start) / pixelsForTick)
        let values = values + including
        return switch kind {
        case .linear:
            .linear(upTo: values.max() ?? 1, from: start, to: end, count: count)
        case .logarithmic: .logarithmic(values, from: start, to: end, count: count)
        }
    }
}

/// A value that everything is to be compared with.
package struct Limit: Sendable {
    package let value: Double
    package let name: String

    package init(_ value: Double, _ name: String) {
        self.value = value
        self.name = name
    }
}

package struct RowChart: Chart {
    package enum Mark: Sendable {
        /// Pieces end to end, each in the manner of its series.
        case bar([(series: Int, value: Double)])
        /// From the lowest to the highest that something may be; nil where it was seen not once.
        case interval(ClosedRange<Double>, at: Double?)

        fileprivate var highest: Double {
            switch self {
            case .bar(let pieces): pieces.reduce(0) { $0 + max(0, $1.value) }
            case .interval(let range, _): range.upperBound
            }
        }
    }

    package struct Row: Sendable {
        package let name: String
        /// Each with what it comes to, in a few words.
        package let marks: [(mark: Mark, label: String)]

        package init(_ name: String, _ marks: [(mark: Mark, label: String)]) {
            self.name = name
            self.marks = marks
        }
    }

    package let rows: [Row]
    /// Names of the series, for the legend; none for intervals.
    package let series: [String]
    package let axis: Axis
    package let limits: [Limit]

    package init(_ rows: [Row], series: [String] = [], axis: Axis, limits: [Limit] = []) {
        self.rows = rows
        self.series = Array(series.prefix(Style.seriesCount))
        self.axis = axis
        self.limits = limits
    }

    private static let markHeight = 16.0
    private static let barHeight = 12.0
    private static let gap = 8.0

    /// Where things stand across: names and labels beside the plot, or above it where it is
    /// narrow.
    private struct Columns {
        let isStacked: Bool
        let nameRoom: Double
        let start: Double
        let end: Double

        init(_ chart: RowChart, _ width: Double) {
            isStacked = width < 560
            let names = chart.rows.map { textWidth($0.name) }.max() ?? 0
            let labels =
                chart.rows.flatMap(\.marks).map { textWidth($0.label) }
                .max() ?? 0
            nameRoom = isStacked ? width : min(names, width * 0.3)
            // Half of a tick's number is beyond the end of the axis.
            start = isStacked ? 16 : max(18, nameRoom + 12)
            end = width - (isStacked ? 24 : max(24, min(labels, width * 0.3) + 10))
        }
    }

    package func drawn(width: Double, id: String) -> Drawing {
        var drawing = Drawing(width: width)
        let columns = Columns(self, width)
        let scale = axis.scale(
            rows.flatMap { $0.marks.map(\.mark.highest) } + limits.map(\.value),
            from: columns.start, to: columns.end, pixelsForTick: 64)
        drawing.legend(series) { series, x, y in
            Style.area(series, id, x: x, y: y - 6, width: 22, height: 12)
        }
        let limitNames = drawLimitNames(&drawing, scale)
        let top = drawing.height
        drawAxis(&drawing, scale, columns, top: top)
        var y = top + Self.gap
        for row in rows { draw(row, &drawing, scale, columns, id, &y) }
        for (limit, from) in zip(limits, limitNames) {
            let x = scale.position(limit.value)
            drawing.line(x, from, x, y, class: "limit")
        }
        return drawing
    }

    private func height(_ row: Row, _ columns: Columns) -> Double {
        let marks = Double(row.marks.count) * Self.markHeight
        let lines = columns.isStacked ? 18 + 15 * Double(row.marks.count) : 0
        return max(marks + lines, Self.markHeight) + Self.gap
    }

    /// - Returns: where the line of each begins.
    private func drawLimitNames(_ drawing: inout Drawing, _ scale: Scale) -> [Double] {
        limits.map { limit in
            drawing.height += 16
            let x = scale.position(limit.value)
            let room = textWidth(limit.name)
            let isLeft = x + room / 2 > drawing.width
            let middle = min(max(x, room / 2), drawing.width - room / 2)
            drawing.text(
                limit.name, isLeft ? drawing.width : middle, drawing.height - 4,
                isLeft ? .end : .middle, class: "limit-name")
            return drawing.height
        }
    }

    private func drawAxis(
        _ drawing: inout Drawing, _ scale: Scale, _ columns: Columns, top: Double
    ) {
        let bottom = top + Self.gap + rows.reduce(0) { $0 + height($1, columns) }
        for tick in scale.ticks {
            let x = scale.position(tick)
            drawing.line(x, top, x, bottom, class: "grid")
            drawing.text(lettered(tick), x, bottom + 16, .middle, class: "soft")
        }
        drawing.line(columns.start, bottom, columns.end, bottom, class: "axis")
        drawing.height = bottom + 20
        for line in wrapped(axis.title, into: drawing.width) {
            drawing.height += 16
            let middle = (columns.start + columns.end) / 2
            let half = textWidth(line) / 2
            drawing.text(
                line, min(max(middle, half), drawing.width - half), drawing.height - 4, .middle)
        }
        drawing.height += 4
    }

    private func draw(
        _ row: Row, _ drawing: inout Drawing, _ scale: Scale, _ columns: Columns, _ id: String,
        _ y: inout Double
    ) {
        let begin = y
        if columns.isStacked {
            drawing.text(
                fitted(row.name, into: columns.nameRoom), 0, y + 13, full: row.name)
            y += 18
        }
        for (mark, label) in row.marks {
            if columns.isStacked {
                drawing.text(
                    fitted(label, into: drawing.width), 0, y + 12, class: "soft", full: label)
                y += 15
            }
            let x = draw(mark, &drawing, scale, id, middle: y + Self.markHeight / 2)
            if !columns.isStacked {
                let room = drawing.width - x - 8
                drawing.text(fitted(label, into: room), x + 8, y + 12, full: label)
            }
            y += Self.markHeight
        }
        if !columns.isStacked {
            let middle = begin + max(y - begin, Self.markHeight) / 2
            drawing.text(
                fitted(row.name, into: columns.nameRoom), columns.nameRoom, middle + 4, .end,
                full: row.name)
        }
        y = begin + height(row, columns)
    }

    /// - Returns: where it ends.
    private func draw(
        _ mark: Mark, _ drawing: inout Drawing, _ scale: Scale, _ id: String, middle: Double
    ) -> Double {
        switch mark {
        case .bar(let pieces):
            var sum = 0.0
            for piece in pieces where piece.value > 0 {
                let x = scale.position(sum)
                sum += piece.value
                drawing.add(
                    Style.area(
                        piece.series, id, x: x, y: middle - Self.barHeight / 2,
                        width: scale.position(sum) - x, height: Self.barHeight))
            }
            return scale.position(sum)
        case .interval(let range, let value):
            let (low, high) = (scale.position(range.lowerBound), scale.position(range.upperBound))
            drawing.line(low, middle, high, middle, class: "line0")
            drawing.line(high, middle - 5, high, middle + 5, class: "line0")
            if let value {
                drawing.line(low, middle - 5, low, middle + 5, class: "line0")
                drawing.add(Style.marker(0, scale.position(value), middle))
            }
            return high
        }
    }
}
