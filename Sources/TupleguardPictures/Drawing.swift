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

    /// - Parameter label: says what is to be seen, for those who don't see it.
    func svg(id: String, label: String, class name: String) -> Markup {
        Self.svg(width, height, label, class: name, [Style.patterns(id)] + shapes + lettering)
    }

    /// The same as a file of its own: with its looks, a title, and where the numbers are from.
    func file(id: String, label: String, title: String, source: String) -> Markup {
        let margin = 12.0
        let top = 40.0
        var around = Drawing(width: width + 2 * margin)
        around.text(title, margin, 26, class: "title")
        around.text(source, margin, top + height + 20, class: "soft")
        let moved = "translate(\(coordinate(margin)) \(coordinate(top)))"
        return Self.svg(
            around.width, top + height + 32, label, class: "",
            [Markup.style(Style.rules), Style.patterns(id)] + around.lettering
                + [.element("g", ["transform": moved], shapes + lettering)])
    }

    private static func svg(
        _ width: Double, _ height: Double, _ label: String, class name: String,
        _ content: [Markup]
    ) -> Markup {
        let size = (coordinate(width), coordinate(height))
        return .element(
            "svg",
            [
                "xmlns": "http://www.w3.org/2000/svg", "width": size.0, "height": size.1,
                "viewBox": "0 0 \(size.0) \(size.1)", "role": "img", "aria-label": label,
                "class": name,
            ],
            [.element("rect", ["width": size.0, "height": size.1, "class": "paper"])] + content)
    }
}
