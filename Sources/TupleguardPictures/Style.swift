// SPDX-License-Identifier: Apache-2.0
// Colours, patterns, dashes and markers: what a series looks like, also to those who see no colours
// or have printed the page in grey.

/// How pictures look.
enum Style {
    static let textSize = 12.0
    static let fonts = "system-ui, \"Segoe UI\", Roboto, \"Helvetica Neue\", Arial, sans-serif"
    /// As many series can be told from one another.
    static let seriesCount = 4

    private struct Palette {
        let paper: String
        let ink: String
        let soft: String
        let grid: String
        let limit: String
        /// Apart for people with every kind of colour blindness, and of different lightness.
        let series: [String]
    }

    private static let light = Palette(
        paper: "#ffffff", ink: "#1a1d21", soft: "#565d66", grid: "#d9dde2", limit: "#b3261e",
        series: ["#1f5fa8", "#c05a00", "#0a7a5c", "#7b3f9c"])
    private static let dark = Palette(
        paper: "#16181c", ink: "#eceef1", soft: "#a8b0ba", grid: "#3a4048", limit: "#ff8a80",
        series: ["#7ab8ff", "#ffb266", "#5fd6b0", "#d6a2f0"])

    /// Rules for pictures.
    static let rules =
        inBoth(pictureRules)
        + "svg text{font-family:\(fonts);font-size:\(coordinate(textSize))px}"
        + "svg text.title{font-size:16px;font-weight:bold}"
        // In a PDF a halo is the same text once more, and copied twice.
        + "@media print{svg text{stroke:none}}"

    /// Rules for pages, those for their pictures among them.
    static let pageRules = pageLayout + inBoth(pageRules) + rules

    /// In light and, on a screen whose reader wants it so, in dark. Paper is light.
    private static func inBoth(_ rules: (Palette) -> String) -> String {
        rules(light) + "@media screen and (prefers-color-scheme:dark){\(rules(dark))}"
    }

    /// Spelled out for each colour: not everything that shows an SVG knows variables of CSS.
    private static func pictureRules(_ palette: Palette) -> String {
        var text = """
            .paper{fill:\(palette.paper)}\
            svg text{fill:\(palette.ink);stroke:\(palette.paper);stroke-width:3px;\
            paint-order:stroke;stroke-linejoin:round}\
            svg text.soft{fill:\(palette.soft)}\
            .grid{stroke:\(palette.grid);stroke-width:1}\
            .axis{stroke:\(palette.soft);stroke-width:1}\
            .limit{stroke:\(palette.limit);stroke-width:1.5;stroke-dasharray:6 3}\
            svg text.limit-name{fill:\(palette.limit)}
            """
        for (index, colour) in palette.series.enumerated() {
            text += """
                .line\(index){stroke:\(colour);stroke-width:2;fill:none}\
                .area\(index){fill:\(colour)}\
                .edge\(index){stroke:\(colour);stroke-width:1}
                """
        }
        return text
    }

    private static func pageRules(_ palette: Palette) -> String {
        """
        body{background:\(palette.paper);color:\(palette.ink)}\
        figcaption p,.soft{color:\(palette.soft)}\
        th,td{border-color:\(palette.grid)}\
        .critical,.warning,.info{border-color:\(palette.soft)}\
        .critical{border-color:\(palette.limit)}\
        pre{background:\(palette.grid)}
        """
    }

    /// Rules for a whole page: readable on a telephone, and on paper, where nobody can open the
    /// tables: they are open there, and may go over to the next sheet.
    private static let pageLayout = """
        :root{color-scheme:light dark}\
        body{margin:0;font:16px/1.5 \(fonts)}\
        main{max-width:60rem;margin:0 auto;padding:1rem}\
        h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin:2rem 0 .25rem}\
        p{margin:.25rem 0 .75rem}\
        figure{margin:0;break-inside:avoid}\
        svg{display:block;max-width:100%;height:auto}\
        .narrow{display:none}\
        @media screen and (max-width:767px){.wide{display:none}.narrow{display:block}}\
        .scroll{overflow-x:auto}\
        table{border-collapse:collapse;font-size:.85rem}\
        th,td{border-bottom:1px solid;padding:.2rem .75rem .2rem 0;text-align:left;\
        vertical-align:top}\
        .number{text-align:right;font-variant-numeric:tabular-nums}\
        article,section{margin:1rem 0;break-inside:avoid}\
        article{border-left:4px solid;padding-left:.75rem}\
        article.warning{border-left-style:dashed}article.info{border-left-style:dotted}\
        h3{font-size:1rem;margin:0}ul{margin:.25rem 0;padding-left:1.25rem}\
        p.remedies{margin:.5rem 0 0;font-weight:bold}ul.remedies{list-style-type:"> "}\
        pre{padding:.5rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem;\
        margin:.25rem 0}\
        li,h1,h3,p{overflow-wrap:anywhere}\
        @media print{body{font-size:11pt}pre{background:none;border:1px solid}\
        figure{break-inside:auto}figcaption{break-after:avoid}svg,tr{break-inside:avoid}\
        summary{list-style:none;break-after:avoid}\
        details::details-content{content-visibility:visible;display:block}\
        svg{max-height:16.5cm}}\
        @media print and (orientation:portrait){svg{max-height:22cm}}
        """

    // MARK: - Without colour

    /// What areas of the series are filled with, for one picture: its id is part of theirs.
    static func patterns(_ id: String) -> Markup {
        func pattern(_ index: Int, _ mark: Markup) -> Markup {
            .element(
                "pattern",
                [
                    "id": "\(id)-pattern\(index)", "width": "6", "height": "6",
                    "patternUnits": "userSpaceOnUse",
                ], .element("rect", ["width": "6", "height": "6", "class": "paper"]), mark)
        }
        func stroke(_ index: Int, _ path: String) -> Markup {
            .element("path", ["d": path, "class": "line\(index)"])
        }
        return .element(
            "defs", [:], pattern(1, stroke(1, "M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2")),
            pattern(2, .element("circle", ["cx": "3", "cy": "3", "r": "1.5", "class": "area2"])),
            pattern(3, stroke(3, "M0,3 h6 M3,0 v6")))
    }

    /// A rectangle in the manner of a series.
    static func area(
        _ series: Int, _ id: String, x: Double, y: Double, width: Double, height: Double
    ) -> Markup {
        .element(
            "rect",
            [
                "x": coordinate(x), "y": coordinate(y), "width": coordinate(width),
                "height": coordinate(height),
                "class": series == 0 ? "area0 edge0" : "edge\(series)",
                "fill": series == 0 ? "" : "url(#\(id)-pattern\(series))",
            ])
    }

    static func dashes(_ series: Int, isComputed: Bool = false) -> String {
        isComputed
            ? ["2 2", "2 6", "2 10", "2 14"][series] : ["none", "8 3", "2 3", "10 3 2 3"][series]
    }

    /// The marker of a series at a point: circle, square, triangle, diamond.
    static func marker(_ series: Int, _ x: Double, _ y: Double, radius: Double = 4) -> Markup {
        let corners: [(Double, Double)]
        switch series {
        case 0:
            return .element(
                "circle",
                [
                    "cx": coordinate(x), "cy": coordinate(y), "r": coordinate(radius),
                    "class": "area0",
                ])
        case 1: corners = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
        case 2: corners = [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)]
        default: corners = [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]
        }
        let points = corners.map {
            "\(coordinate(x + $0.0 * radius)),\(coordinate(y + $0.1 * radius))"
        }
        return .element(
            "polygon", ["points": points.joined(separator: " "), "class": "area\(series)"])
    }
}
