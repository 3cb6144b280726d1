// SPDX-License-Identifier: Apache-2.0
// Rows with a name each, and bars or intervals on one axis that all share.

/// What an axis measures. The title has the unit.
package struct Axis: Sendable {
    package let title: String
    package let kind: Scale.Kind
    /// Values that have to be on it, whether or not something is drawn there.
    package let including: [Double]
    /// Whether it counts: a linear axis then has no ticks between whole numbers.
    package let isWhole: Bool

    package init(
        _ title: String, _ kind: Scale.Kind = .linear, including: [Double] = [],
        isWhole: Bool = false
    ) {
        self.title = title
        self.kind = kind
        self.including = including
        self.isWhole = isWhole
    }

    func scale(_ values: [Double], from start: Double, to end: Double, pixelsForTick: Double)
        -> Scale
    {
        let count = Int(abs(end - start) / pixelsForTick)
        let values = values + including
        return switch kind {
        case .linear:
            .linear(
                upTo: values.max() ?? 1, from: start, to: end, count: count, isWhole: isWhole)
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

        /// What has to be on the axis. Where something was seen not once, its interval has a
        /// highest end only.
        fileprivate var values: [Double] {
            switch self {
            case .bar(let pieces): [pieces.reduce(0) { $0 + max(0, $1.value) }]
            case .interval(let range, nil): [range.upperBound]
            case .interval(let range, let value?): [range.lowerBound, value, range.upperBound]
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
    private static let lineHeight = 15.0
    private static let gap = 8.0

    /// Where things stand across: names and labels beside the bars, or above them where there is
    /// no room, since the end of a name is often what tells it from the others.
    private struct Columns {
        let hasNamesAbove: Bool
        let hasLabelsAbove: Bool
        let start: Double
        let end: Double
        private let width: Double

        init(_ chart: RowChart, _ width: Double) {
            self.width = width
            let isNarrow = width < 560
            let names = chart.rows.map { textWidth($0.name) }.max() ?? 0
            let labels = chart.rows.flatMap(\.marks).map { textWidth($0.label) }.max() ?? 0
            hasNamesAbove = isNarrow || names > width * 0.3
            hasLabelsAbove = isNarrow || labels > width * (hasNamesAbove ? 0.5 : 0.35)
            // Half of a tick's number is beyond the end of the axis.
            start = hasNamesAbove ? 16 : max(18, names + 12)
            end = width - (hasLabelsAbove ? 24 : max(24, labels + 10))
        }

        /// Of a name above its bars; none where it is beside them.
        func lines(ofName name: String) -> [String] {
            hasNamesAbove ? wrapped(name, into: width) : []
        }

        /// Where labels above their bars begin.
        var labelStart: Double { hasNamesAbove ? 0 : start }

        func lines(ofLabel label: String) -> [String] {
            hasLabelsAbove ? wrapped(label, into: width - labelStart) : []
        }
    }

    package func drawn(width: Double, id: String) -> Drawing {
        var drawing = Drawing(width: width)
        let columns = Columns(self, width)
        let scale = axis.scale(
            rows.flatMap { $0.marks.flatMap(\.mark.values) } + limits.map(\.value),
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
        let lines =
            columns.lines(ofName: row.name).count
            + row.marks.reduce(0) { $0 + columns.lines(ofLabel: $1.label).count }
        return max(marks + Double(lines) * Self.lineHeight, Self.markHeight) + Self.gap
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
        draw(columns.lines(ofName: row.name), of: row.name, &drawing, x: 0, &y)
        for (mark, label) in row.marks {
            draw(
                columns.lines(ofLabel: label), of: label, &drawing, x: columns.labelStart, &y,
                class: "soft")
            let x = draw(mark, &drawing, scale, id, middle: y + Self.markHeight / 2)
            if !columns.hasLabelsAbove { drawing.text(label, x + 8, y + 12) }
            y += Self.markHeight
        }
        if !columns.hasNamesAbove {
            let middle = begin + max(y - begin, Self.markHeight) / 2
            drawing.text(row.name, columns.start - 12, middle + 4, .end)
        }
        y = begin + height(row, columns)
    }

    /// Lines of a text from `y` on, which is below them then.
    private func draw(
        _ lines: [String], of text: String, _ drawing: inout Drawing, x: Double,
        _ y: inout Double, class name: String = ""
    ) {
        let isWhole = lines.joined(separator: " ") == text
        for line in lines {
            drawing.text(line, x, y + 12, class: name, full: isWhole ? nil : text)
            y += Self.lineHeight
        }
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
