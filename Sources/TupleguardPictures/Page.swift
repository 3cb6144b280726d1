// SPDX-License-Identifier: Apache-2.0
// Pictures with what belongs to them, and pages of pictures: files that need nothing else.

/// Numbers behind a picture, for those who read or copy them.
package struct DataTable: Sendable {
    package let columns: [(title: String, isNumber: Bool)]
    package let rows: [[String]]

    package init(_ columns: [(title: String, isNumber: Bool)], _ rows: [[String]]) {
        self.columns = columns
        self.rows = rows
    }

    fileprivate var markup: Markup {
        func row(_ cells: [String], isHeading: Bool) -> Markup {
            .element(
                "tr", [:],
                zip(cells, columns).map { cell, column in
                    let name = column.isNumber ? "number" : ""
                    return isHeading
                        ? .element("th", ["scope": "col", "class": name], Markup(cell))
                        : .element("td", ["class": name], Markup(cell))
                })
        }
        return .element(
            "details", [:], .element("summary", [:], Markup("The figures")),
            .element(
                "div", ["class": "scroll"],
                .element(
                    "table", [:],
                    .element("thead", [:], row(columns.map(\.title), isHeading: true)),
                    .element("tbody", [:], rows.map { row($0, isHeading: false) }))))
    }
}

/// A picture with its title, what it shows, and the numbers behind it.
package struct Figure: Sendable {
    /// A word for it, of letters of ASCII.
    package let name: String
    package let title: String
    package let explanation: String
    /// What it was measured on.
    package let source: String
    package let chart: any Chart
    package let table: DataTable

    package init(
        _ name: String, title: String, explanation: String, source: String, _ chart: any Chart,
        _ table: DataTable
    ) {
        self.name = name
        self.title = title
        self.explanation = explanation
        self.source = source
        self.chart = chart
        self.table = table
    }

    private static let wide = 736.0
    private static let narrow = 340.0

    /// The picture alone, as a file.
    package var svg: String {
        chart.drawn(width: Self.wide, id: name)
            .file(id: name, label: label, title: title, source: source).description + "\n"
    }

    private var label: String { "\(title). \(explanation)" }

    /// Drawn twice, for wide and for narrow screens: letters that shrink with the picture could
    /// not be read.
    fileprivate var markup: Markup {
        func drawn(_ width: Double, _ kind: String) -> Markup {
            let id = "\(name)-\(kind)"
            return chart.drawn(width: width, id: id)
                .svg(id: id, label: label, class: kind)
        }
        return .element(
            "figure", ["id": name],
            .element(
                "figcaption", [:], .element("h2", [:], Markup(title)),
                .element("p", [:], Markup("\(explanation) (\(source).)"))),
            drawn(Self.wide, "wide"), drawn(Self.narrow, "narrow"), table.markup)
    }
}

/// A page that can be sent, printed and read anywhere: it loads nothing and runs nothing.
package struct Page: Sendable {
    package let title: String
    /// Paragraphs before the first picture.
    package let introduction: [String]
    /// What is neither picture nor paragraph, between these.
    package var inserted: [Markup] = []
    package var figures: [Figure] = []
    /// Paragraphs after the last picture.
    package var notes: [String] = []

    package init(_ title: String, _ introduction: [String]) {
        self.title = title
        self.introduction = introduction
    }

    package var html: String {
        let paragraphs = { (texts: [String]) in
            texts.map { Markup.element("p", [:], Markup($0)) }
        }
        let head: [Markup] = [
            .element("meta", ["charset": "utf-8"]),
            .element(
                "meta",
                ["name": "viewport", "content": "width=device-width, initial-scale=1"]),
            // Whatever a name in it may try: a browser loads and runs nothing here.
            .element(
                "meta",
                [
                    "http-equiv": "Content-Security-Policy",
                    "content": "default-src 'none'; style-src 'unsafe-inline'",
                ]),
            .element("title", [:], Markup(title)),
            .style(Style.pageRules),
        ]
        let body =
            [.element("h1", [:], Markup(title))] + paragraphs(introduction) + inserted
            + figures.map(\.markup) + paragraphs(notes)
        return Markup.document(
            .element(
                "html", ["lang": "en"], .element("head", [:], head),
                .element("body", [:], .element("main", [:], body))))
    }
}
