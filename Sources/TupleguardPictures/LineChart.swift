// SPDX-License-Identifier: Apache-2.0
// Lines over a common axis, told apart by markers and dashes besides colour.

package struct LineChart: Chart {
    package struct Line: Sendable {
        package let name: String
        package let points: [(x: Double, y: Double)]
        /// Computed, not measured: drawn without markers.
        package let isComputed: Bool
        /// Which manner it is drawn in: a measured line and the computed one beside it have the
        /// same.
        package let series: Int

        package init(
            _ name: String, series: Int, _ points: [(x: Double, y: Double)],
            isComputed: Bool = false
        ) {
            self.name = name
            self.series = series % Style.seriesCount
            self.points = points
            self.isComputed = isComputed
        }
    }

    package let lines: [Line]
    package let across: Axis
    package let up: Axis

    package init(_ lines: [Line], across: Axis, up: Axis) {
        self.lines = lines
        self.across = across
        self.up = up
    }

    /// A marker for each of so many points at most; more of them would be a smear.
    private static let markers = 9

    package func drawn(width: Double, id: String) -> Drawing {
        var drawing = Drawing(width: width)
        drawing.legend(lines.map(\.name)) { index, x, y in
            let line = lines[index]
            return Markup([
                path([(x, y), (x + 24, y)], line),
                line.isComputed ? .empty : Style.marker(line.series, x + 12, y),
            ])
        }
        for title in wrapped(up.title, into: width) {
            drawing.height += 16
            drawing.text(title, 0, drawing.height - 4)
        }
        let top = drawing.height + 10
        let bottom = top + min(320, width * 0.62)
        let vertical = up.scale(
            lines.flatMap { $0.points.map(\.y) }, from: bottom, to: top, pixelsForTick: 36)
        let start = 10 + (vertical.ticks.map { textWidth(lettered($0)) }.max() ?? 0)
        let horizontal = across.scale(
            lines.flatMap { $0.points.map(\.x) }, from: start, to: width - 28, pixelsForTick: 64)
        drawAxes(&drawing, horizontal, vertical)
        for line in lines { draw(line, &drawing, horizontal, vertical) }
        return drawing
    }

    private func drawAxes(_ drawing: inout Drawing, _ horizontal: Scale, _ vertical: Scale) {
        let (left, right) = (horizontal.start, horizontal.end)
        let (bottom, top) = (vertical.start, vertical.end)
        for tick in vertical.ticks {
            let y = vertical.position(tick)
            drawing.line(left, y, right, y, class: "grid")
            drawing.text(lettered(tick), left - 6, y + 4, .end, class: "soft")
        }
        for tick in horizontal.ticks {
            let x = horizontal.position(tick)
            drawing.line(x, top, x, bottom, class: "grid")
            drawing.text(lettered(tick), x, bottom + 18, .middle, class: "soft")
        }
        drawing.line(left, bottom, right, bottom, class: "axis")
        drawing.line(left, top, left, bottom, class: "axis")
        drawing.height = bottom + 22
        for title in wrapped(across.title, into: drawing.width) {
            drawing.height += 16
            let half = textWidth(title) / 2
            let middle = min(max((left + right) / 2, half), drawing.width - half)
            drawing.text(title, middle, drawing.height - 4, .middle)
        }
        drawing.height += 4
    }

    private func draw(
        _ line: Line, _ drawing: inout Drawing, _ horizontal: Scale, _ vertical: Scale
    ) {
        // What a logarithmic axis has no place for is left out: zero is no point on it.
        let points = line.points.filter {
            (horizontal.kind == .linear || $0.x > 0) && (vertical.kind == .linear || $0.y > 0)
        }.map { (x: horizontal.position($0.x), y: vertical.position($0.y)) }
        guard !points.isEmpty else { return }
        drawing.add(path(points, line))
        guard !line.isComputed else { return }
        let step = (points.count + Self.markers - 1) / Self.markers
        for index in stride(from: 0, to: points.count, by: step) {
            drawing.add(Style.marker(line.series, points[index].x, points[index].y))
        }
    }

    private func path(_ points: [(x: Double, y: Double)], _ line: Line) -> Markup {
        let places = points.map { "\(coordinate($0.x)),\(coordinate($0.y))" }
        return .element(
            "polyline",
            [
                "points": places.joined(separator: " "), "class": "line\(line.series)",
                "stroke-dasharray": Style.dashes(line.series, isComputed: line.isComputed),
            ])
    }
}
