// SPDX-License-Identifier: Apache-2.0
// A picture that is being drawn: lines and text at places, and in the end an SVG.

/// Something that can be drawn as wide as there is room, from 320 pixels on.
package protocol Chart: Sendable {
    /// - Parameter id: a word that no other drawing on the page has.
    func drawn(width: Double, id: String) -> Drawing
}

/// Shapes, and how much room they take.
package struct Drawing {
    enum Anchor: String { case start, middle, end }

    let width: Double
    var height = 0.0
    private var shapes: [Markup] = []
    /// Over all shapes: a line through a word makes it hard to read.
    private var lettering: [Markup] = []

    init(width: Double) {
        self.width = width
    }

    mutating func add(_ shape: Markup) { shapes.append(shape) }

    mutating func text(
        _ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start,
        class name: String = "", full: String? = nil
    ) {
        // A name that was shortened is told in full to whoever points at it.
        let title = full.map { [$0 == text ? .empty : Markup.element("title", [:], Markup($0))] }
        lettering.append(
            .element(
                "text",
                [
                    "x": coordinate(x), "y": coordinate(y), "text-anchor": anchor.rawValue,
                    "class": name,
                ], [Markup(text)] + (title ?? [])))
    }

    mutating func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, class name: String
    ) {
        shapes.append(
            .element(
                "line",
                [
                    "x1": coordinate(x1), "y1": coordinate(y1), "x2": coordinate(x2),
                    "y2": coordinate(y2), "class": name,
                ]))
    }

    /// Pieces of a legend in as many lines as they need.
    ///
    /// - Parameter mark: draws what stands before a name, 24 pixels wide, around a middle line.
    mutating func legend(_ names: [String], _ mark: (Int, Double, Double) -> Markup) {
        guard !names.isEmpty else { return }
        var x = 0.0
        var y = height + 12
        for (index, name) in names.enumerated() {
            let name = fitted(name, into: width - 40)
            let room = 30 + textWidth(name) + 16
            if x > 0 && x + room > width {
                x = 0
                y += 20
            }
            shapes.append(mark(index, x, y))
            text(name, x + 30, y + 4)
            x += room
        }
        height = y + 16
    }

    /// - Parameters:
    ///   - label: says what is to be seen, for those who don't see it.
    ///   - isAlone: it is a file of its own, and needs the rules of its looks.
    func svg(id: String, label: String, class name: String, isAlone: Bool) -> Markup {
        let size = (coordinate(width), coordinate(height))
        let all = [
            isAlone ? Markup.style(Style.rules) : .empty, Style.patterns(id),
            .element("rect", ["width": size.0, "height": size.1, "class": "paper"]),
        ]
        return .element(
            "svg",
            [
                "xmlns": "http://www.w3.org/2000/svg", "width": size.0, "height": size.1,
                "viewBox": "0 0 \(size.0) \(size.1)", "role": "img", "aria-label": label,
                "class": name,
            ], all + shapes + lettering)
    }
}
